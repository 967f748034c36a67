package t
import (
 _ "go.etcd.io/etcd/client/v3"
 _ "go.etcd.io/etcd/client/v3/concurrency"
 _ "go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)
