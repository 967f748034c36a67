// The suite of tests/clientv3 with etcd's client v3.6.4.
package clientv3_36

import (
	"testing"

	"quorumfs.test/clientv3"
	"quorumfs.test/e2e/cluster"
)

func TestMain(m *testing.M) { cluster.Main(m) }

func TestClientv3(t *testing.T) { clientv3.All(t) }
