"""What the documents say is what the code does: generated pages are complete, links lead to files."""

import re
import tomllib
from pathlib import Path

import pytest

from docs.generate import PAGES, SENDER, page, receivers_variables, senders_variables

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
README = (ROOT / "README.md").read_text()
WRITTEN = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_fresh(name: str) -> None:
    assert (DOCS / name).read_text() == page(name), "run `python -m docs.generate`"


def test_every_setting_that_the_sender_reads_has_a_line_and_no_line_is_of_another() -> None:
    listed = {name for variables in SENDER.values() for name in variables}
    asked = senders_variables()
    files = {name for name in asked if name.endswith("_FILE") and name.removesuffix("_FILE") in asked}
    assert listed == asked - files


def test_every_setting_that_the_receiver_reads_has_a_line() -> None:
    text = (DOCS / "receiver-configuration.md").read_text()
    asked = receivers_variables()
    assert len(asked) > 10
    for name in asked:
        line = f"`{name.removesuffix('_FILE')}` †" if name.endswith("_FILE") else f"`{name}`"
        assert line in text, name


def test_a_link_leads_to_a_file_of_this_project() -> None:
    for path in WRITTEN:
        text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if not re.match(r"https?://|#", target):
                assert (path.parent / target.partition("#")[0]).exists(), f"{path}: {target}"


def test_a_path_that_a_document_names_exists() -> None:
    path_of_ours = re.compile(r"`((?:penpot_telemetry|receiver|tests|docs|benchmarks|notebooks|deploy)/[a-z0-9_./-]*)`")
    for path in WRITTEN:
        for name in path_of_ours.findall(path.read_text()):
            assert (ROOT / name).exists(), f"{path}: {name}"


def test_the_index_lists_every_decision_by_its_number_and_title() -> None:
    records = sorted((DOCS / "decisions").glob("0*.md"))
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    index = (DOCS / "decisions" / "index.md").read_text()
    for path in records:
        number, _, title = path.read_text().splitlines()[0].removeprefix("# ").partition(": ")
        assert f"| [{number}]({path.name}) | {title} |" in index
        assert all(f"**{part}.**" in path.read_text() for part in ("Decision", "Reason", "Price"))


def test_the_readme_is_short_and_names_the_two_commands() -> None:
    assert len(README.splitlines()) <= 150
    assert re.search(r"^make demo\b", README, re.MULTILINE) and re.search(r"^make test\b", README, re.MULTILINE)


def test_every_extra_that_a_document_installs_exists() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    for path in WRITTEN:
        for names in re.findall(r"(?:\.|\.whl|penpot-telemetry)\[([a-z,]+)\]", path.read_text()):
            assert set(names.split(",")) <= set(extras), path


def test_the_extra_for_development_lists_what_the_groups_list() -> None:
    groups = PROJECT["dependency-groups"]
    grouped = [one for group in groups.values() for one in group if isinstance(one, str)]
    assert sorted(grouped) == sorted(PROJECT["project"]["optional-dependencies"]["dev"])
    assert {one["include-group"] for one in groups["dev"] if isinstance(one, dict)} == groups.keys() - {"dev"}


def test_every_target_of_make_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.compile(r"(?:^|`|run: |&& )make ([a-z]+)", re.MULTILINE)
    for path in [*WRITTEN, ROOT / ".github/workflows/ci.yml"]:
        for target in named.findall(path.read_text()):
            assert target in targets, f"{path}: make {target}"
