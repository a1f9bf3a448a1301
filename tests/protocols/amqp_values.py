"""Values of AMQP tables and properties, as Hypothesis makes them."""

from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import strategies as st

from smart_router.protocols.amqp_properties import Properties

__all__ = ["PROPERTIES", "SHORT", "TABLES"]

SHORT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2106, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda time: time.replace(microsecond=0)
)
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, width=32),
    SHORT,
    st.binary(max_size=40),
    _TIMES,
    st.builds(lambda digits, places: Decimal(digits).scaleb(-places), st.integers(0, 2**31 - 1), st.integers(0, 20)),
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SHORT, inner, max_size=3),
    max_leaves=8,
)
TABLES = st.dictionaries(SHORT, _VALUES, max_size=5)
PROPERTIES = st.builds(
    Properties,
    delivery_mode=st.none() | st.integers(0, 255),
    message_id=st.none() | SHORT,
    type=st.none() | SHORT,
    headers=st.none() | TABLES,
    timestamp=st.none() | st.integers(0, 2**64 - 1),
    priority=st.none() | st.integers(0, 255),
    expiration=st.none() | SHORT,
    content_type=st.none() | SHORT,
    content_encoding=st.none() | SHORT,
    correlation_id=st.none() | SHORT,
    reply_to=st.none() | SHORT,
    user_id=st.none() | SHORT,
    app_id=st.none() | SHORT,
)
