"""Layers of experts side by side on a GPU: ours, torch's grouped product, and transformers' own.

Everything here runs on a CPU too, slowly and untimed, so that what each side computes is tested
without a GPU.
"""
