module quorumfs.test/e2e

go 1.23
