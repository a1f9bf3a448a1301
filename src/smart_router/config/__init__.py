"""Settings: what there is (schema), where it comes from (load), what must hold (rules), and conditions."""
