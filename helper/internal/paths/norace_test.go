//go:build !race

package paths

const raceDetector = false
