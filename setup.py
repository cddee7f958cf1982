"""The build of the Cython extension modules; everything else is said in pyproject.toml."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

LIBFUSE = "3.10"
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "embedsignature": True,
    "freethreading_compatible": True,
    "auto_pickle": False,
    "autotestdict": False,
}


def pkg_config(*options: str) -> list[str]:
    """The words that pkg-config prints about libfuse3."""
    command = [os.environ.get("PKG_CONFIG", "pkg-config"), *options, "fuse3"]
    try:
        run = subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        raise SystemExit(
            f"fastfuse is built against libfuse {LIBFUSE} or newer, found with pkg-config; install"
            " libfuse3-dev pkg-config (Debian, Ubuntu), fuse3-devel pkgconf-pkg-config (Fedora),"
            " fuse3 pkgconf (Arch) or fuse3-dev pkgconf (Alpine)"
        ) from None
    return shlex.split(run.stdout)


pkg_config(f"--atleast-version={LIBFUSE}")
COMPILE_ARGS = [*pkg_config("--cflags"), "-O2"]
LINK_ARGS = pkg_config("--libs")
if sanitizers := os.environ.get("FASTFUSE_SANITIZE"):
    COMPILE_ARGS += ["-g", "-O1", "-fno-omit-frame-pointer", f"-fsanitize={sanitizers}"]
    LINK_ARGS += [f"-fsanitize={sanitizers}"]


class BuildExt(build_ext):
    """Cythonize and compile what changed: a source, a declaration, or the flags."""

    def run(self) -> None:
        if self.editable_mode:
            # setuptools' own choice is a fresh temporary directory: everything compiled each time.
            self.build_lib, self.build_temp = "build/editable", "build/temp"
        super().run()

    def build_extensions(self) -> None:
        known = f"{DIRECTIVES} {COMPILE_ARGS} {LINK_ARGS} {pkg_config('--modversion')}"
        record = Path(self.build_temp, "flags")
        self.force = self.force or not record.exists() or record.read_text() != known
        self.parallel = self.parallel or os.cpu_count()

        from Cython.Build import cythonize

        cythonized = cythonize(
            self.extensions,
            build_dir="build/cython",
            compiler_directives=DIRECTIVES,
            force=self.force,
            nthreads=self.parallel or 0,
        )
        for extension, c in zip(self.extensions, cythonized, strict=True):
            extension.sources, extension.depends = c.sources, c.depends
        super().build_extensions()
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(known)


if __name__ == "__main__":
    setup(
        cmdclass={"build_ext": BuildExt},
        ext_modules=[
            Extension(
                ".".join(source.with_suffix("").parts),
                [str(source)],
                define_macros=[("FUSE_USE_VERSION", "312")],
                include_dirs=["fastfuse/core"],
                extra_compile_args=COMPILE_ARGS,
                extra_link_args=LINK_ARGS,
            )
            for source in sorted(Path("fastfuse/core").glob("*.pyx"))
        ],
    )
