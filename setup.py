"""The compiled kernels; everything else is in ``pyproject.toml``."""

import sysconfig

from setuptools import setup

limited = not sysconfig.get_config_var("Py_GIL_DISABLED")
setup(
    cffi_modules=["csrc/build_ffi.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if limited else {},
)
