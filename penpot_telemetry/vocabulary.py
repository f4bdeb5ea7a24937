"""The closed lists of words that a context value may be made of. Facts only: no rule and no code.

Browsers, engines, systems, devices and processors are everything that ua-parser-js can say, from 1.0.37, which
Penpot ships, to 2.0.10: its enumerations, the fixed names of its tables, and the words that its patterns capture.
`tests/data/ua_parser_values.json` holds them by version.
"""


def _words(text: str, separator: str | None = None) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(separator))


NOTHING = frozenset({"", "unknown", "other"})
"""What stands for no word: an empty value, a parser that did not know, and a word that this list did not know."""

BROWSERS = NOTHING | _words(
    "115|2345|2345Explorer|360|360 Browser|Alipay|Aloha|Amaya|Android Browser|Arora|Atlas|Avant|Avast Secure Browser|"
    "AVG Secure Browser|Avira Secure Browser|Baidu|Baidu Browser|Basilisk|Bing|Blazer|BLU|Bolt|Bowser|Brave|Camino|"
    "Chimera|Chrome|Chrome Headless|Chrome WebView|Chromium|Cobalt|Coc Coc|Comodo Dragon|Conkeror|Daum|Dillo|Dolphin|"
    "Dooble|Doris|Dragon|DuckDuckGo|Ecosia|Edge|Edge WebView|Edge WebView2|Electron|Epiphany|Facebook|Falkon|Fennec|"
    "Firebird|Firefox|Firefox Focus|Firefox Mobile|Firefox Reality|Flock|Flow|Go Browser|Go.Browser|GoBrowser|GSA|"
    "Helio|HeyTap|HiBrowser|Honor|Huawei Browser|iCab|ICE Browser|ICE.Browser|IceApe|ICEBrowser|IceCat|IceDragon|"
    "IceWeasel|IE|IEMobile|Instagram|Iridium|Iron|Jasmine|K-Meleon|KakaoStory|KakaoTalk|KHTML|Kindle|Klar|Klarna|"
    "Konqueror|Ladybird|LBBROWSER|LG Browser|LibreWolf|Lighthouse|Line|LinkedIn|Links|Luakit|Lunascape|Lynx|"
    "Maemo Browser|Maxthon|Midori|Minimo|MIUI Browser|Mobile Chrome|Mobile Firefox|Mobile Safari|MobileSafari|Mosaic|"
    "Mozilla|Naver|NetFront|Netscape|Netsurf|Nokia Browser|NokiaBrowser|Norton Private Browser|Obigo|Oculus Browser|"
    "OmniWeb|Opera|Opera Coast|Opera GX|Opera Mini|Opera Mobi|Opera Mobile|Opera Neon|Opera Tablet|Opera Touch|Otter|"
    "Ovi|OviBrowser|PaleMoon|PhantomJS|Phoenix|Pico Browser|Polaris|Puffin|QQ|QQBrowser|QQBrowserLite|Quark|QupZilla|"
    "qutebrowser|Qwant|rekonq|RockMelt|Rockmelt|Safari|Sailfish Browser|Samsung Browser|Samsung Internet|SeaMonkey|"
    "Silk|Skyfire|Sleipnir|Slim|SlimBoat|SlimBrowser|Slimjet|Smart Lenovo Browser|Snapchat|Sogou Explorer|"
    "Sogou Mobile|Steam|Surf|Swiftfox|Tesla|TikTok|Tizen Browser|TizenBrowser|Twitter|UCBrowser|UP Browser|"
    "UP.Browser|UPBrowser|Viera|Vivaldi|Vivo Browser|w3m|Waterfox|WebKit|WeChat|Weibo|Whale|Wolvic|Yandex|Zalo",
    "|",
)

ENGINES = NOTHING | _words(
    "Amaya ArkWeb Blink Dillo EdgeHTML Flow Gecko Goanna iCab KHTML LibWeb Links Lynx NetFront NetSurf Presto Servo "
    "Tasman Trident w3m WebKit"
)

SYSTEMS = NOTHING | _words(
    "AIX|Amiga OS|AmigaOS|Android|Android x86|Android-x86|ArcaOS|Arch|Bada|BeOS|BlackBerry|BSD|CentOS|Chrome OS|"
    "Chromecast|Chromecast Android|Chromecast Fuchsia|Chromecast Linux|Chromecast SmartSpeaker|Chromium OS|Contiki|"
    "Debian|Deepin|DragonFly|elementary OS|Fedora|Firefox OS|FreeBSD|Fuchsia|Gentoo|GhostBSD|GNU|Haiku|HarmonyOS|"
    "HP-UX|Hurd|iOS|iPadOS|Joli|KaiOS|Knoppix|Kubuntu|Linpus|Linspire|Linux|Lubuntu|Mac OS|macOS|Maemo|Mageia|"
    "Mandriva|Manjaro|MeeGo|Minix|Mint|Morph OS|MorphOS|NetBSD|NetRange|NetTV|Nintendo|Nubuntu|OpenBSD|OpenHarmony|"
    "OpenSolaris|OpenSUSE|OpenVMS|OS/2|Palm|PC-BSD|PCLinuxOS|Pico|Plan 9|Plan9|PlayStation|Playstation|QNX|Raspbian|"
    "Red Hat|RedHat|RIM Tablet OS|RISC OS|Sabayon|Sailfish|SerenityOS|Series40|Slackware|Solaris|SUSE|Symbian|Tizen|"
    "Ubuntu|Ubuntu Touch|Unix|VectorLinux|Vega OS|Viera|watchOS|WebOS|webOS|Windows|Windows CE|Windows IoT|"
    "Windows Mobile|Windows Phone|Windows Phone OS|Windows RT|Xbox|Xubuntu|Zenwalk",
    "|",
)

ARCHITECTURES = NOTHING | _words(
    "68k aarch64 alpha amd64 arm arm64 armhf avr avr32 i386 i486 i586 i686 ia32 ia64 irix irix64 mips mips64 pa-risc "
    "ppc ppc64 ppc64le riscv64 s390x sparc sparc64 x86 x86_64"
)

LINUX_MACHINES = ARCHITECTURES | _words(
    "armv5l armv5tel armv6l armv7 armv7hl armv7l armv8 armv8l loongarch64 sun4m sun4u x86pc"
)
"""How Linux names the machine; ua-parser-js 1.0 reads it as the version: `Linux x86_64`."""

SYSTEM_VERSIONS = LINUX_MACHINES | _words(
    "3DS|CE|DS|ME|NT|NT x|One|Portable|R1|RT|S|SE|Series S|Series X|server 2003|server 2008|server 2008 r2|"
    "server 2012|server 2012 r2|server 2016|server 2019|server 2022|server 2025|Switch|TV|U|Vista|Vita|Wii|WiiU|X|"
    "x.y|XP",
    "|",
)
"""Versions of systems that are words. Those that are numbers are a pattern."""

DEVICES = NOTHING | _words("console desktop embedded mobile smarttv tablet wearable xr")

ORIENTATIONS = NOTHING | _words(
    "landscape landscape-primary landscape-secondary portrait portrait-primary portrait-secondary"
)

# -- user agents -----------------------------------------------------------------------------------------------------

CHROMIUM_PRODUCTS = _words(
    "Brave Chrome Chromium CriOS CrMo Edg EdgA EdgW EdgiOS HeadlessChrome OPR OPRGX OPX Vivaldi Whale YaBrowser"
)
"""Products whose version is the major number and three zeros once it is reduced, as Chromium does it."""

GECKO_PRODUCTS = _words("Firefox Focus FxiOS Klar LibreWolf SeaMonkey Waterfox Fennec IceCat Goanna PaleMoon Basilisk")
"""Products whose version is the major number and one zero, as Firefox has it."""

PRODUCTS = (
    CHROMIUM_PRODUCTS
    | GECKO_PRODUCTS
    | _words("Opera Mini|Opera Mobi|Opera Tablet", "|")
    | _words(
        "115Browser 2345Explorer aiohttp AlipayClient AlohaBrowser Amaya Android Apache-HttpClient Applebot "
        "AppleWebKit Arora Atlas Avast AVG Avira AviraSecure axios baiduboxapp BIDUBrowser Bingbot Bolt Bowser Bun "
        "Camino CentOS CFNetwork Chimera ClaudeBot Coast Cobalt coc_coc_browser Conkeror CrKey curl Dalvik Dart "
        "Darwin DaumApps Ddg Debian Deno Dillo Dolfin Dooble Doris Dragon DuckDuckBot DuckDuckGo EcosiaApp Edge "
        "EdgeHTML EkiohFlow Electron Epiphany facebookexternalhit Falkon Fedora Firebird Flock Flow Galeon Gecko "
        "Gentoo Go-http-client Googlebot got GPTBot GSA GuzzleHttp Helio HeyTapBrowser HonorBrowser HTTPie "
        "HuaweiBrowser iCab Iceape IceDragon Iceweasel IEMobile insomnia Instagram Iridium Iron Java "
        "Java-http-client KAIOS KAKAOTALK KHTML Kindle Klarna Konqueror Kubuntu Ladybird LBBROWSER libcurl "
        "libwww-perl Line Links Luakit Lunascape Lynx Mandriva Maxthon MicroMessenger Midori Minimo Mint MiuiBrowser "
        "Mobile Mosaic Mozilla MQQBrowser MSIE Navigator NetFront Netscape Netscape6 NetSurf NintendoBrowser node "
        "node-fetch Node.js NokiaBrowser Norton Obigo OculusBrowser okhttp OmniWeb Opera OPiOS OPT Otter OviBrowser "
        "penpot penpot-exporter penpot-mcp penpot-telemetry PhantomJS Phoenix PHP PicoBrowser Polaris PostmanRuntime "
        "Presto Puffin Python python-httpx python-requests Python-urllib python-urllib3 QQ QQBrowser QQBrowserLite "
        "QtCarBrowser QtWebEngine Quark QupZilla qutebrowser Qwantbrowser QwantMobile Raspbian rekonq reqwest "
        "RockMelt Ruby Safari SailfishBrowser SamsungBrowser Servo Silk Skyfire Slackware SLBrowser Sleipnir "
        "SlimBoat Slimjet Snapchat Surf SUSE Swiftfox Tablet Tasman Tesla Trident Twitter Twitterbot UBrowser Ubuntu "
        "UCBrowser UCWEB undici UP.Browser Version VivoBrowser w3m WebKit WebKitGTK+ Wget Wolvic wOSBrowser YandexBot"
    )
)
"""Products of a user agent: browsers, their engines, programs and libraries that speak HTTP."""

FROZEN_VERSIONS = {
    "AppleWebKit": _words("537.36 605.1.15"),
    "Gecko": _words("20100101"),
    "Mobile": _words("15E148"),
    "Mozilla": _words("4.0 5.0"),
    "Opera": _words("9.80"),
    "Safari": _words("537.36 604.1 605.1.15"),
}
"""Versions that browsers froze themselves: the same for everybody, and what parsers look for."""

LOOSE_WORDS = _words("Gecko like Mobile Tablet TV VR")
"""Words that stand alone between the products."""

COMMENTS = _words(
    "Arch|ARM|ARM64|arm_64|compatible|Edition beta|Edition developer|IEMobile|iPad|iPhone|iPod|iPod touch|K|"
    "KHTML, like Gecko|like Gecko|Mac_PowerPC|Macintosh|Mobile|Mobile VR|PPC|PPC Mac OS X|Series40|SMART-TV|SmartTV|"
    "SymbianOS|Tablet|Touch|TV|U|VR|Wayland|Web0S|Win16|Win32|Win64|Win95|Win98|Windows Mobile|Windows Phone OS|"
    "WOW64|wv|X11|x64|x86|Xbox One|Xbox Series X",
    "|",
)
"""Parts of the comment in a user agent that are kept as they are, besides the systems and products."""
