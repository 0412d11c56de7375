"""How properties are tried: no time limit for one example, since machines that run tests are busy."""

from typing import Final

from hypothesis import HealthCheck, settings

PROFILE: Final = "tollwire"

settings.register_profile(PROFILE, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(PROFILE)
