module quorumfs.test/e2e/mountfeatures

go 1.23.0

require quorumfs.test/e2e v0.0.0

replace quorumfs.test/e2e => ../

require golang.org/x/sys v0.31.0
