package lab

import (
	"fmt"
	"sync"
	"time"
)

func readTSC() uint64

// clockRate tells a guest's kernel how fast its clock runs: as this machine's counter
// (TSC), which the emulation passes on. A kernel that measures it against an emulated
// timer is wrong by far now and then, on a busy machine, and its clock with it
// (tsc_early_khz, kernel-parameters.txt).
var clockRate = sync.OnceValue(func() string {
	began, from := time.Now(), readTSC()
	time.Sleep(100 * time.Millisecond)
	ticks, took := readTSC()-from, time.Since(began)
	return fmt.Sprintf(" tsc_early_khz=%d", uint64(float64(ticks)/took.Seconds()/1000))
})
