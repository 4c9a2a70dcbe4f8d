"""Pictures and pages for people: training curves, overlays of predictions."""
