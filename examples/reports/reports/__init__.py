"""Reports on how the Earth turns: one measured day a row since 1973, charts and figures by year and by span."""
