"""Which Python runs us."""

import sys
import sysconfig


def is_optimized() -> bool:
    """Whether this Python was built with profile-guided optimization; without it our code is much slower.

    Builds of python.org, Docker, Homebrew and conda say so in their configuration. Those of Linux
    distributions do not, and live below /usr, where nobody else installs one. pyenv's default is without.
    """
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return "--enable-optimizations" in arguments or sys.base_prefix == "/usr"
