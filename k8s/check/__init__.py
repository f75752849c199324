"""Checks of the manifests that need no cluster: python -m k8s.check

Each overlay is built as `kubectl apply -k` builds it, and each check is a function from that to its faults. A fault
names the file, the object and the path in it.
"""
