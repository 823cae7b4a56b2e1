//go:build race

package paths

const raceDetector = true
