"""The cffi description of the compiled kernels: what ``setup.py`` builds as ``qkdpp.kernels._ck``.

The headers named below are read as they stand by cffi and by the compiler. With
``QKDPP_REQUIRE_C=1`` a compiler that fails ends the build; otherwise the
package installs without the module and says so when it runs. The module carries
a checksum of the ``qk_*.h``: ``qkdpp/kernels/compiled.py`` refuses one that was built from others.
"""

import hashlib
import os
import sys
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
GCC_FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wconversion"]
WRAPPER = """
#if defined(__GNUC__)
/* The wrapper that cffi writes converts freely; the kernels do not. */
#pragma GCC diagnostic ignored "-Wconversion"
#endif
#include "qk_bits.h"
#include "qk_cascade.h"
#include "qk_internal.h"
"""

checksum = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(HERE.glob("qk_*.h")))).digest()
QK_HEADERS = f"#define QK_HEADERS {int.from_bytes(checksum[:7], 'little')}\n"

ffibuilder = FFI()
ffibuilder.cdef(QK_HEADERS)
for header in ("qk_api.h", "qk_bits.h", "qk_cascade.h"):
    ffibuilder.cdef((HERE / header).read_text(encoding="utf-8"))
ffibuilder.set_source(
    "qkdpp.kernels._ck",
    WRAPPER + QK_HEADERS,
    sources=sorted(f"csrc/{path.name}" for path in HERE.glob("*.c")),
    depends=sorted(f"csrc/{path.name}" for path in HERE.glob("*.h")),
    include_dirs=["csrc"],
    libraries=[] if sys.platform == "win32" else ["m"],
    extra_compile_args=["/O2", "/std:c11"] if sys.platform == "win32" else GCC_FLAGS,
    optional=os.environ.get("QKDPP_REQUIRE_C") != "1",
)
