"""What `make audit` makes of what pip-audit found."""

from deploy.audit import judge, requirements

SOUND = {"name": "trio", "version": "0.35.0", "vulns": []}
FAULTY = {"name": "idna", "version": "3.6", "vulns": [{"id": "PYSEC-2024-60", "fix_versions": ["3.7"]}]}
SKIPPED = {"name": "attrs", "skip_reason": "not found"}


def test_packages_without_a_fault_are_not_told():
    assert judge([SOUND]) == ""


def test_a_known_fault_and_a_package_without_data_are_told():
    assert judge([SOUND, FAULTY, SKIPPED]) == "idna 3.6: PYSEC-2024-60, mended in ['3.7']\nattrs: no data, not found"


def test_an_index_without_data_has_found_nothing():
    assert judge([SKIPPED, SKIPPED]).startswith("Nothing was looked up")


def test_what_is_asked_about_is_what_users_install():
    names = " ".join(requirements())
    assert all(each in names for each in ("trio", "coredis", "confluent-kafka", "crawler-user-agents"))
    assert "online-client" not in names
    assert "pytest" not in names
