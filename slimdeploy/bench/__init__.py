"""Measure latency: sessions in worker processes, feeds in, Measurements out; knows no models."""
