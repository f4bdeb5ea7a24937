;; The other end of the wire, on the JVM: the reference codec with Penpot's tags.
;;
;;   decode             lines of hex on stdin; a line each: the typed text of the value, a tab, the bytes written again
;;   encode SEED COUNT  random values; a line each: hex, a tab, the typed text
;;   bench FILE ROUNDS  a payload file (or bare fressian bytes); after 30 rounds of warming up, one line a round:
;;                      milliseconds to decode, a tab, milliseconds to encode
;;   serve FILE         the same, one at a time: after warming up the number of events, then for each line on stdin,
;;                      `decode` or `encode`, the milliseconds (of processor time, as everywhere here)
;;   once FILE          decode it, cold, and print the number of events
;;
;; The typed text shows every type: strings as hex of UTF-16, floating numbers as hex of their bits, what has no order
;; sorted. Two values are the same exactly when their texts are.

(import '[org.fressian FressianReader FressianWriter TaggedObject Writer Reader]
        '[org.fressian.handlers ILookup ReadHandler WriteHandler]
        '[java.io BufferedReader ByteArrayInputStream ByteArrayOutputStream File InputStreamReader]
        '[java.nio.file Files]
        '[java.time Instant]
        '[java.util ArrayList Base64 Date HashMap HashSet Random UUID])
(require '[clojure.string :as str] '[clojure.data.fressian :as fressian])

(set! *warn-on-reflection* false)

;; Penpot's linked collections, as far as the wire sees them.
(deftype LinkedMap [entries])
(deftype LinkedSet [items])

;; ------------------------------------------------------------------------------------------------- the tags

(defn write-with [f] (reify WriteHandler (write [_ w o] (f ^Writer w o))))
(defn read-with [f] (reify ReadHandler (read [_ r _tag _count] (f ^Reader r))))

(defn write-list [tag]
  (write-with (fn [^Writer w items] (.writeTag w tag 1) (.writeList w (ArrayList. ^java.util.Collection (vec items))))))

(defn write-entries [tag entries-of]
  (write-with (fn [^Writer w m]
                (.writeTag w tag 1)
                (.beginClosedList ^org.fressian.StreamingWriter w)
                (doseq [[k v] (entries-of m)] (.writeObject w k true) (.writeObject w v))
                (.endList ^org.fressian.StreamingWriter w))))

(defn write-name [tag]
  (write-with (fn [^Writer w n] (.writeTag w tag 2) (.writeObject w (namespace n) true) (.writeObject w (name n) true))))

(def write-handlers
  {clojure.lang.Keyword         {"clj/keyword" (write-name "clj/keyword")}
   clojure.lang.Symbol          {"clj/symbol" (write-name "clj/symbol")}
   Character                    {"char" (write-with (fn [^Writer w c] (.writeTag w "char" 1) (.writeInt w (long (int c)))))}
   clojure.lang.Ratio           {"clj/ratio" (write-with (fn [^Writer w r]
                                                           (.writeTag w "clj/ratio" 2)
                                                           (.writeObject w (numerator r))
                                                           (.writeObject w (denominator r))))}
   clojure.lang.BigInt          {"clj/bigint" (write-with (fn [^Writer w n]
                                                            (.writeTag w "clj/bigint" 1)
                                                            (.writeBytes w (.toByteArray (biginteger n)))))}
   Instant                      {"java/instant" (write-with (fn [^Writer w ^Instant i]
                                                              (.writeTag w "java/instant" 1)
                                                              (.writeInt w (.toEpochMilli i))))}
   clojure.lang.APersistentVector {"clj/vector" (write-list "clj/vector")}
   clojure.lang.APersistentSet  {"clj/set" (write-list "clj/set")}
   clojure.lang.ISeq            {"clj/seq" (write-list "clj/seq")}
   clojure.lang.APersistentMap  {"clj/map" (write-entries "clj/map" seq)}
   LinkedMap                    {"linked/map" (write-entries "linked/map" #(.entries ^LinkedMap %))}
   LinkedSet                    {"linked/set" (write-with (fn [^Writer w ^LinkedSet s]
                                                            (.writeTag w "linked/set" 1)
                                                            (.writeList w (ArrayList. ^java.util.Collection (.items s)))))}})

(defn read-map [^Reader r]
  (let [items (.toArray ^java.util.List (.readObject r))]
    (if (<= (alength items) 16)
      (clojure.lang.PersistentArrayMap. items)
      (clojure.lang.PersistentHashMap/create (seq items)))))

(def read-handlers
  {"clj/keyword"  (read-with (fn [^Reader r] (let [n (.readObject r)] (keyword n (.readObject r)))))
   "clj/symbol"   (read-with (fn [^Reader r] (let [n (.readObject r)] (symbol n (.readObject r)))))
   "char"         (read-with (fn [^Reader r] (char (.readInt r))))
   "clj/ratio"    (read-with (fn [^Reader r] (let [n (biginteger (.readObject r))]
                                               (clojure.lang.Ratio. n (biginteger (.readObject r))))))
   "clj/bigint"   (read-with (fn [^Reader r] (bigint (BigInteger. ^bytes (.readObject r)))))
   "bigint"       (read-with (fn [^Reader r] (bigint (BigInteger. ^bytes (.readObject r)))))
   "java/instant" (read-with (fn [^Reader r] (Instant/ofEpochMilli (.readInt r))))
   "clj/vector"   (read-with (fn [^Reader r] (vec (.readObject r))))
   "clj/set"      (read-with (fn [^Reader r] (set (.readObject r))))
   "clj/seq"      (read-with (fn [^Reader r] (sequence (.readObject r))))
   "clj/list"     (read-with (fn [^Reader r] (apply list (.readObject r))))
   "clj/map"      (read-with read-map)
   "linked/map"   (read-with (fn [^Reader r] (LinkedMap. (mapv vec (partition 2 (.readObject r))))))
   "linked/set"   (read-with (fn [^Reader r] (LinkedSet. (vec (.readObject r)))))})

(def writers (-> write-handlers fressian/associative-lookup fressian/inheritance-lookup))
(def readers (fressian/associative-lookup read-handlers))

(defn decode [^bytes data]
  (.readObject (FressianReader. (ByteArrayInputStream. data) readers false)))

(defn encode ^bytes [value]
  (let [out (ByteArrayOutputStream.)]
    (.writeObject (FressianWriter. out writers) value)
    (.toByteArray out)))

;; ------------------------------------------------------------------------------------------------- typed text

(defn append-hex [^StringBuilder out ^long n ^long digits]
  (loop [shift (* 4 (dec digits))]
    (when (>= shift 0)
      (.append out (Character/forDigit (int (bit-and 15 (bit-shift-right n shift))) 16))
      (recur (- shift 4)))))

(defn hex [^bytes data]
  (let [out (StringBuilder.)]
    (dotimes [i (alength data)] (append-hex out (aget data i) 2))
    (str out)))

(defn unhex ^bytes [^String text]
  (let [data (byte-array (quot (count text) 2))]
    (dotimes [i (alength data)]
      (aset data i (unchecked-byte (+ (* 16 (Character/digit (.charAt text (* 2 i)) 16))
                                      (Character/digit (.charAt text (inc (* 2 i))) 16)))))
    data))

(defn units [^String s]
  (let [out (StringBuilder.)]
    (dotimes [i (.length s)] (append-hex out (int (.charAt s i)) 4))
    (str out)))

(declare text)

(defn texts [items] (str/join " " (map text items)))
(defn sorted [items] (str/join " " (sort (map text items))))
(defn entry [[k v]] (str (text k) " " (text v)))
(defn entries [m] (str/join " " (sort (map entry m))))
(defn qualified [n] (str (if (namespace n) (units (namespace n)) "-") "/" (units (name n))))
(defn array [of items] (str "@" of "[" (texts items) "]"))

(def BYTES (Class/forName "[B"))

(defn text [x]
  (cond
    (nil? x) "nil"
    (instance? Boolean x) (str x)
    (instance? Long x) (str "i" x)
    (instance? Double x) (str "d" (format "%016x" (Double/doubleToLongBits x)))
    (instance? Float x) (str "f" (format "%08x" (Float/floatToIntBits x)))
    (string? x) (str "s" (units x))
    (instance? BYTES x) (str "b" (hex x))
    (char? x) (str "c" (format "%04x" (int x)))
    (keyword? x) (str "k" (qualified x))
    (symbol? x) (str "y" (qualified x))
    (instance? clojure.lang.BigInt x) (str "n" x)
    (decimal? x) (str "m" (.unscaledValue ^BigDecimal x) "e" (.scale ^BigDecimal x))
    (instance? clojure.lang.Ratio x) (str "r" (numerator x) "/" (denominator x))
    (uuid? x) (str "u" x)
    (instance? Date x) (str "t" (.getTime ^Date x))
    (instance? Instant x) (str "T" (.toEpochMilli ^Instant x))
    (instance? java.util.regex.Pattern x) (str "x" (units (str x)))
    (instance? java.net.URI x) (str "l" (units (str x)))
    (vector? x) (str "[" (texts x) "]")
    (seq? x) (str "(" (texts x) ")")
    (set? x) (str "#{" (sorted x) "}")
    (map? x) (str "{" (entries x) "}")
    (instance? LinkedMap x) (str "L{" (str/join " " (map entry (.entries ^LinkedMap x))) "}")
    (instance? LinkedSet x) (str "L#{" (texts (.items ^LinkedSet x)) "}")
    (instance? java.util.Map x) (str "J{" (entries x) "}")
    (instance? java.util.Set x) (str "J#{" (sorted x) "}")
    (instance? java.util.List x) (str "<" (texts x) ">")
    (instance? TaggedObject x) (str "!" (text (.getTag ^TaggedObject x)) "(" (texts (.getValue ^TaggedObject x)) ")")
    (instance? (Class/forName "[J") x) (array "long" x)
    (instance? (Class/forName "[I") x) (array "int" (map long x))
    (instance? (Class/forName "[D") x) (array "double" x)
    (instance? (Class/forName "[F") x) (array "float" x)
    (instance? (Class/forName "[Z") x) (array "boolean" x)
    (.isArray (class x)) (array "object" x)
    :else (throw (IllegalArgumentException. (str "no typed text for " (class x))))))

;; ------------------------------------------------------------------------------------------------- random values

(defn pick [^Random r n] (.nextInt r (int n)))
(defn any-long [^Random r] (bit-shift-right (.nextLong r) (pick r 64)))
(defn any-string [^Random r]
  (let [alphabet ["a" "b" "-" "Z" "é" "ß" "€" "漢" "\uD83D\uDE00" "\u0000" "\uD83D" "\uFFFF" "\u0800" "\u007F"]]
    (str/join (repeatedly (pick r 14) #(nth alphabet (pick r (count alphabet)))))))
(defn any-word [^Random r] (str/join (repeatedly (inc (pick r 8)) #(nth "abcdefghijklmnop-é" (pick r 18)))))
(defn any-name [r f] (if (zero? (pick r 3)) (f (any-word r) (any-word r)) (f (any-word r))))
(defn any-bytes [^Random r n] (let [data (byte-array n)] (.nextBytes r data) data))
(defn any-bigint [^Random r] (bigint (BigInteger. ^bytes (any-bytes r (inc (pick r 24))))))
(defn any-double [^Random r]
  (+ 0.0 (case (pick r 5) 0 (double (pick r 3)) 1 (.nextGaussian r) 2 (Double/longBitsToDouble (.nextLong r)) 3 ##Inf 4 (double (any-long r)))))
(defn any-float [^Random r] (if (zero? (pick r 3)) (float (pick r 3)) (Float/intBitsToFloat (.nextInt r))))

(def scalars
  [(fn [_] nil) (fn [^Random r] (.nextBoolean r)) any-long any-long any-double any-float any-string any-string
   (fn [r] (any-bytes r (pick r 20)))
   (fn [r] (char (pick r 65536)))
   (fn [r] (any-name r keyword)) (fn [r] (any-name r keyword)) (fn [r] (any-name r symbol))
   any-bigint
   (fn [r] (BigDecimal. (biginteger (any-bigint r)) (int (- (pick r 60) 30))))
   (fn [r] (let [d (inc (pick r 50)) n (inc (* d (pick r 99)))] (if (= d 1) 1/3 (/ n d))))
   (fn [^Random r] (UUID. (.nextLong r) (.nextLong r)))
   (fn [r] (Date. (long (any-long r))))
   (fn [r] (Instant/ofEpochMilli (any-long r)))
   (fn [r] (re-pattern (any-word r)))
   (fn [r] (java.net.URI. (str "https://penpot.app/" (pick r 1000))))
   (fn [r] (long-array (repeatedly (pick r 5) #(any-long r))))
   (fn [^Random r] (int-array (repeatedly (pick r 5) #(.nextInt r))))
   (fn [r] (double-array (repeatedly (pick r 5) #(any-double r))))
   (fn [r] (float-array (repeatedly (pick r 5) #(any-float r))))
   (fn [^Random r] (boolean-array (repeatedly (pick r 5) #(.nextBoolean r))))])

;; Keys that Clojure and Java compare alike.
(def keys-of
  [(fn [r] (any-name r keyword)) (fn [r] (any-name r keyword)) (fn [r] (any-name r symbol)) any-string any-long
   (fn [^Random r] (.nextBoolean r)) (fn [^Random r] (UUID. (.nextLong r) (pick r 4))) (fn [r] (+ 0.5 (pick r 100000)))
   (fn [r] [(any-long r) (any-word r)]) (fn [r] (set [(any-word r)])) (fn [r] {(any-name r keyword) (any-long r)})
   (fn [r] (Instant/ofEpochMilli (any-long r)))])

(defn any-key [r] ((nth keys-of (pick r (count keys-of))) r))

(defn any-value [^Random r depth]
  (if (or (zero? depth) (zero? (pick r 3)))
    ((nth scalars (pick r (count scalars))) r)
    (let [items (fn [] (vec (repeatedly (pick r (if (zero? (pick r 8)) 40 9)) #(any-value r (dec depth)))))
          members (fn [] (distinct (repeatedly (pick r 12) #(any-key r))))]
      (case (int (pick r 11))
        (0 1) (items)
        2 (apply list (items))
        3 (ArrayList. ^java.util.Collection (items))
        (4 5 6) (into {} (map (fn [k] [k (any-value r (dec depth))]) (members)))
        7 (set (members))
        8 (let [kind (pick r 4)]
            (case (int kind)
              0 (HashSet. ^java.util.Collection (members))
              1 (HashMap. ^java.util.Map (into {} (map (fn [k] [k (any-value r (dec depth))]) (members))))
              2 (LinkedSet. (vec (members)))
              3 (LinkedMap. (mapv (fn [k] [k (any-value r (dec depth))]) (members)))))
        ;; The reference keeps structs by their tag alone: one tag, one number of components.
        9 (let [items (items)] (TaggedObject. (str "x/" (count items)) (object-array items)))
        10 (object-array (items))))))

;; ------------------------------------------------------------------------------------------------- the modes

(defn answer [line]
  (try
    (let [value (decode (unhex line))] (str (text value) "\t" (hex (encode value))))
    (catch Throwable error (str "error\t" (class error)))))

(defn payload-of [path]
  (let [data (Files/readAllBytes (.toPath (File. ^String path)))]
    (if (not= (first data) (byte \{))
      [nil data]
      (let [events (second (re-find #"\"events\":\"([^\"]*)\"" (String. data "UTF-8")))] [events nil]))))

(defn inflate [^String events]
  (let [blob (.decode (Base64/getUrlDecoder) events)
        length (.getInt (java.nio.ByteBuffer/wrap blob 2 4))
        zstd (Class/forName "com.github.luben.zstd.Zstd")]
    (clojure.lang.Reflector/invokeStaticMethod
      zstd "decompress" (to-array [(java.util.Arrays/copyOfRange blob 6 (alength blob)) (int length)]))))

(defn deflate [^bytes data]
  (let [zstd (Class/forName "com.github.luben.zstd.Zstd")
        frame ^bytes (clojure.lang.Reflector/invokeStaticMethod zstd "compress" (to-array [data (int 0)]))
        blob (java.nio.ByteBuffer/allocate (+ 6 (alength frame)))]
    (.putShort blob (short 4)) (.putInt blob (alength data)) (.put blob frame)
    (.encodeToString (.withoutPadding (Base64/getUrlEncoder)) (.array blob))))

;; Time of the processor in this thread: what else the machine does counts little, and the collector's own threads nothing.
(def threads (java.lang.management.ManagementFactory/getThreadMXBean))
(defn cpu [] (.getCurrentThreadCpuTime ^java.lang.management.ThreadMXBean threads))
(defn ms [f] (let [start (cpu)] (f) (/ (- (cpu) start) 1e6)))

(defn work-of [path]
  (let [[events data] (payload-of path)]
    [(if events #(decode (inflate events)) #(decode data))
     (if events #(deflate (encode %)) #(encode %))]))

(defn warm [read-all write-all value]
  (dotimes [_ 30] (read-all) (write-all value)))

(defn bench [path rounds]
  (let [[read-all write-all] (work-of path)
        value (read-all)]
    (warm read-all write-all value)
    (dotimes [_ rounds]
      (println (format "%.3f\t%.3f" (ms read-all) (ms #(write-all value)))))))

(defn serve [path]
  (let [[read-all write-all] (work-of path)
        value (read-all)]
    (warm read-all write-all value)
    (println (count value))
    (doseq [line (line-seq (BufferedReader. (InputStreamReader. System/in)))]
      (println (format "%.3f" (case line "decode" (ms read-all) "encode" (ms #(write-all value))))))))

(let [[mode & arguments] *command-line-args*]
  (case mode
    "decode" (doseq [line (line-seq (BufferedReader. (InputStreamReader. System/in)))] (println (answer line)))
    "encode" (let [r (Random. (parse-long (first arguments)))]
               (dotimes [_ (parse-long (second arguments))]
                 (let [value (any-value r 4)] (println (str (hex (encode value)) "\t" (text value))))))
    "bench" (bench (first arguments) (parse-long (second arguments)))
    "serve" (serve (first arguments))
    "once" (println (count ((first (work-of (first arguments)))))))
  (flush))
