// etcd-peer is etcd's own server as a library, to be measured beside quorumfs: the same flags as etcd's for what the
// benchmark sets, everything else at etcd's defaults.
package main

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

func urls(text string) []url.URL {
	u, err := url.Parse(text)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return []url.URL{*u}
}

func main() {
	cfg := embed.NewConfig()
	flag.StringVar(&cfg.Name, "name", "default", "")
	flag.StringVar(&cfg.Dir, "data-dir", "", "")
	flag.StringVar(&cfg.InitialCluster, "initial-cluster", "", "")
	client := flag.String("listen-client-urls", "http://127.0.0.1:2379", "")
	peer := flag.String("listen-peer-urls", "http://127.0.0.1:2380", "")
	flag.Parse()
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = urls(*client), urls(*client)
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = urls(*peer), urls(*peer)
	if cfg.InitialCluster == "" {
		cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	}
	cfg.LogLevel = "error"
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer e.Close()
	select {
	case <-e.Server.ReadyNotify():
		fmt.Println("ready to serve client requests")
	case <-time.After(60 * time.Second):
		fmt.Fprintln(os.Stderr, "etcd does not start")
		os.Exit(1)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case <-stop:
	case err := <-e.Err():
		fmt.Fprintln(os.Stderr, err)
	}
}
