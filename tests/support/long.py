"""Tests that go on as long as one lets them: a little by default, much with TOLLWIRE_LONG=1."""

import os

LONG = os.environ.get("TOLLWIRE_LONG") == "1"
