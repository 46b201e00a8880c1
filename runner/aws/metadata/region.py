"""The region of this instance, by its metadata."""

from __future__ import annotations

import os
import re

from runner.aws.settings import METADATA_ATTEMPTS, METADATA_ENDPOINT, METADATA_TIMEOUT_S

_REGION_OF_ZONE = re.compile(r"[a-z]{2,5}(?:-[a-z]+)+-\d+")


def region_of_instance() -> str:
    """The region of this EC2 instance. Raises NoRegionError where there is no metadata service."""
    from botocore.exceptions import NoRegionError  # noqa: PLC0415
    from botocore.utils import InstanceMetadataRegionFetcher  # noqa: PLC0415

    from runner.aws.lean import bound_fetcher  # noqa: PLC0415 - loads botocore's session

    endpoint = {"ec2_metadata_service_endpoint": os.environ.get(METADATA_ENDPOINT)}
    fetcher = InstanceMetadataRegionFetcher(METADATA_TIMEOUT_S, METADATA_ATTEMPTS, config=endpoint)
    bound_fetcher(fetcher)
    zone = fetcher.retrieve_region() or ""
    # A local zone is us-west-2-lax-1a; its region is what comes first.
    if match := _REGION_OF_ZONE.match(zone):
        return match[0]
    raise NoRegionError
