"""What every test may count on: a clean environment and one hypothesis profile.

Fixtures live in tests/fixtures, by subject.
"""

from __future__ import annotations

import os

import hypothesis

pytest_plugins = ["tests.fixtures.databases", "tests.fixtures.ledgers", "tests.fixtures.role_logs"]

for name in [name for name in os.environ if name.startswith("IQDB_")]:
    del os.environ[name]  # a developer's shell must not leak into the product under test

hypothesis.settings.register_profile(
    "project",
    deadline=None,  # these machines are noisy; what is too slow is said by the timeout
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("project")
