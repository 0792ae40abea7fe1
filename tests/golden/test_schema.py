"""The JSON schema of a spec: what editors and other programs check a sweep.yaml against."""

from __future__ import annotations

import json

from golden.snapshots import FOLDER, differs
from sweeps.spec import SweepSpec


def test_the_schema_is_the_golden_one():
    assert not differs("spec.schema.json")


def test_the_schema_knows_every_key_of_a_spec_and_no_other():
    schema = json.loads((FOLDER / "spec.schema.json").read_text(encoding="utf-8"))
    assert schema["properties"].keys() == SweepSpec.model_fields.keys()
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"trainable", "space"}
