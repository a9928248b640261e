package mirror

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fifty at once for one pod: each gets its turn, and the file goes with the last.
func TestALockLeavesNoFile(t *testing.T) {
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			unlock, err := LockPod("c1")
			if err != nil {
				t.Error(err)
				return
			}
			time.Sleep(time.Millisecond)
			unlock()
		})
	}
	wait.Wait()
	if entries, err := os.ReadDir(lockDir); err != nil || len(entries) > 0 {
		t.Errorf("left: %v (%v)", entries, err)
	}
}

func TestWhoeverWaitsTooLongForALockIsToldWhichItIs(t *testing.T) {
	unlock, err := LockPod("c1")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	_, err = lock(podLock(podHash("c1")), "the container c1", 50*time.Millisecond)
	if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), lockDir+"/pod-") {
		t.Errorf("a held lock: %v", err)
	}
	other, err := LockPod("c2")
	if err != nil {
		t.Fatalf("another pod's lock: %v", err)
	}
	other()
}
