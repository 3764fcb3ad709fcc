"""The shape with a real node: kubelet and containerd in namespaces of their own."""
