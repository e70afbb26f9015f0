// Makes a release: images, manifests, chart, plugin of kubectl, bills of
// materials and checksums. A module of its own, so that the server's go.mod
// knows nothing of them.
module metal-stack.io/infrastructure-apiserver/hack/release

go 1.26.0

require github.com/spf13/cobra v1.10.2

require (
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
)
