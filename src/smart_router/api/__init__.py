"""HTTP beside the gateways: health, metrics, checks, revocations, and files of the page."""

from smart_router.api.app import AsgiApplication, create_api

__all__ = ["AsgiApplication", "create_api"]
