"""Prints a SAM template as it is written and as SAM expands it with the parameters' defaults, as one JSON object."""

import copy
import json
import sys
from types import SimpleNamespace

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

# SAM would ask IAM for the ARNs of managed policies that are named without one.
NO_MANAGED_POLICIES = SimpleNamespace(load=dict)

with open(sys.argv[1], encoding="utf-8") as template:
    written = yaml_parse(template.read())

# The expansion takes only packaged code.
packaged = copy.deepcopy(written)
for resource in packaged["Resources"].values():
    if "CodeUri" in resource.get("Properties", {}):
        resource["Properties"]["CodeUri"] = "s3://bucket/key"

expanded = transform(packaged, {}, NO_MANAGED_POLICIES)
json.dump({"written": written, "expanded": expanded}, sys.stdout, default=str)
