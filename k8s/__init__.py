"""Manifests for Kubernetes, and what checks them offline: python -m k8s.check"""
