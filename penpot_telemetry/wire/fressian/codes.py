"""Every fressian code by name; a range by its first code (its last one is in the table at the foot of `reader`)."""

INT_PACKED_1 = 0x00
INT_PACKED_2 = 0x50
INT_PACKED_3 = 0x68
INT_PACKED_4 = 0x72
INT_PACKED_5 = 0x76
INT_PACKED_6 = 0x7A
INT_PACKED_7 = 0x7E
"""The code that carries a zero high part: the high part is the code less this one, negative below it."""

CACHE_REF_PACKED = 0x80
STRUCT_PACKED = 0xA0

LONG_ARRAY = 0xB0
DOUBLE_ARRAY = 0xB1
BOOLEAN_ARRAY = 0xB2
INT_ARRAY = 0xB3
FLOAT_ARRAY = 0xB4
OBJECT_ARRAY = 0xB5

MAP = 0xC0
SET = 0xC1
UUID = 0xC3
REGEX = 0xC4
URI = 0xC5
BIGINT = 0xC6
BIGDEC = 0xC7
INST = 0xC8
SYM = 0xC9
KEY = 0xCA
CACHE_REF = 0xCC
CACHE_PUT = 0xCD
FOOTER = 0xCF

BYTES_PACKED = 0xD0
BYTES_CHUNK = 0xD8
BYTES = 0xD9
STRING_PACKED = 0xDA
STRING_CHUNK = 0xE2
STRING = 0xE3
LIST_PACKED = 0xE4
LIST = 0xEC
BEGIN_CLOSED_LIST = 0xED
BEGIN_OPEN_LIST = 0xEE
STRUCTTYPE = 0xEF
STRUCT = 0xF0

TRUE = 0xF5
FALSE = 0xF6
NULL = 0xF7
INT = 0xF8
FLOAT = 0xF9
DOUBLE = 0xFA
DOUBLE_0 = 0xFB
DOUBLE_1 = 0xFC
END_COLLECTION = 0xFD
RESET_CACHES = 0xFE
MINUS_ONE = 0xFF

PACKED_LENGTHS = 8
"""Bytes, strings and lists up to one less than this carry their length in the code."""

PACKED_REFS = 32
PACKED_STRUCTS = 16

FOOTER_MAGIC = b"\xcf\xcf\xcf\xcf"
BYTES_CHUNK_SIZE = 65_535
STRING_CHUNK_SIZE = 65_536

CORE_TAGS = {
    ("long[]", 1): LONG_ARRAY,
    ("double[]", 1): DOUBLE_ARRAY,
    ("boolean[]", 1): BOOLEAN_ARRAY,
    ("int[]", 1): INT_ARRAY,
    ("float[]", 1): FLOAT_ARRAY,
    ("Object[]", 1): OBJECT_ARRAY,
    ("map", 1): MAP,
    ("set", 1): SET,
    ("uuid", 1): UUID,
    ("regex", 1): REGEX,
    ("uri", 1): URI,
    ("bigint", 1): BIGINT,
    ("bigdec", 2): BIGDEC,
    ("inst", 1): INST,
    ("sym", 2): SYM,
    ("key", 2): KEY,
}
"""Tags, with their number of components, that have a code of their own and so never take a struct slot."""
