"""What the server serves: the built-in kinds that charts use, and those of operators, where installed."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind."""

    group_version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """Empty for the core group."""
        return self.group_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """As `v1`."""
        return self.group_version.rpartition("/")[2]

    @property
    def root(self) -> str:
        """Where its group is served, as `apis/apps/v1`."""
        return f"apis/{self.group_version}" if self.group else f"api/{self.version}"


BUILT_IN: Final = (
    Resource("v1", "Namespace", "namespaces", namespaced=False),
    Resource("v1", "Secret", "secrets"),
    Resource("v1", "ConfigMap", "configmaps"),
    Resource("v1", "Service", "services"),
    Resource("v1", "ServiceAccount", "serviceaccounts"),
    Resource("v1", "Pod", "pods"),
    Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    Resource("v1", "Event", "events"),
    Resource("apps/v1", "Deployment", "deployments"),
    Resource("apps/v1", "ReplicaSet", "replicasets"),
    Resource("apps/v1", "StatefulSet", "statefulsets"),
    Resource("batch/v1", "Job", "jobs"),
    Resource("batch/v1", "CronJob", "cronjobs"),
    Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    Resource("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    Resource("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    Resource("networking.k8s.io/v1", "Ingress", "ingresses"),
    Resource("rbac.authorization.k8s.io/v1", "Role", "roles"),
    Resource("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
)
# What operators bring: a cluster has them when somebody installed them.
OF_OPERATORS: Final = (
    Resource("postgresql.cnpg.io/v1", "Cluster", "clusters"),
    Resource("postgresql.cnpg.io/v1", "Pooler", "poolers"),
    Resource("postgresql.cnpg.io/v1", "Backup", "backups"),
    Resource("postgresql.cnpg.io/v1", "ScheduledBackup", "scheduledbackups"),
    Resource("postgresql.cnpg.io/v1", "Database", "databases"),
    Resource("barmancloud.cnpg.io/v1", "ObjectStore", "objectstores"),
    Resource("keda.sh/v1alpha1", "ScaledObject", "scaledobjects"),
    Resource("keda.sh/v1alpha1", "TriggerAuthentication", "triggerauthentications"),
    Resource("monitoring.coreos.com/v1", "ServiceMonitor", "servicemonitors"),
    Resource("monitoring.coreos.com/v1", "PodMonitor", "podmonitors"),
    Resource("monitoring.coreos.com/v1", "PrometheusRule", "prometheusrules"),
    Resource("gateway.networking.k8s.io/v1", "Gateway", "gateways"),
    Resource("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes"),
    Resource("cert-manager.io/v1", "Certificate", "certificates"),
)
