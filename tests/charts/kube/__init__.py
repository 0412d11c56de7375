"""A Kubernetes API server that runs nothing: what Helm and kubectl ask of one, kept in memory.

It is there to see a release's life (install, test, upgrade, rollback, uninstall) with the real programs.
It refuses what a real one refuses as far as charts meet it: unknown fields, changes of what cannot be
changed, server-side applies that another manager's fields conflict with; and pods that name a Secret,
a ConfigMap or a service account that is not there never become ready. It is no cluster: no scheduler,
no kubelet, no admission, no operators.
"""
