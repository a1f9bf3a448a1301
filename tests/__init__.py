"""The tests of Smart Router; folders mirror src/smart_router."""
