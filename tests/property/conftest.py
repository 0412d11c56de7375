"""How properties are tried: no time limit for one example, since machines that run tests are busy."""

from hypothesis import HealthCheck, settings

settings.register_profile("tollwire", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tollwire")
