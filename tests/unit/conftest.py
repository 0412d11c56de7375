"""Unit tests that try examples try them as properties are tried, also where they run alone."""

from hypothesis import settings

from tests.property.conftest import PROFILE

settings.load_profile(PROFILE)
