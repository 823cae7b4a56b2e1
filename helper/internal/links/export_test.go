//go:build kernel

package links

// MakeFromHost is for tests of the real kernel, in their own package.
var MakeFromHost = makeFromHost
