"""Which wheel this is: one library for every CPython, so `py3-none`, and none for other platforms."""
import pathlib
import re

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel

here = pathlib.Path(__file__).resolve().parent
release = here.parents[1] / "Sources/Library/Release.swift"


class PlatformWheel(bdist_wheel):
    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


class Platform(Distribution):
    def has_ext_modules(self):
        return True


setup(version=re.search(r'version = "(.*)"', release.read_text())[1], distclass=Platform,
      cmdclass={"bdist_wheel": PlatformWheel})
