package artifact_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/local"
	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/stretchr/testify/require"
)

const (
	victimStore = "DATAGUARDIAN_TEST_VICTIM_STORE"
	victimSpool = "DATAGUARDIAN_TEST_VICTIM_SPOOL"
	// victimParts is how many parts the victim uploads before it is killed.
	victimParts = 4
)

// killVictim starts this test program again as a backup whose dump is complete
// and whose upload is at half, and kills it there.
func killVictim(t *testing.T, store, spool string) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), victimStore+"="+store, victimSpool+"="+spool)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "half\n", line)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
}

// actAsVictim does what killVictim waits for, when this process is the victim.
func actAsVictim() {
	if os.Getenv(victimSpool) == "" {
		return
	}
	if err := beVictim(os.Getenv(victimStore), os.Getenv(victimSpool)); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(1)
}

func beVictim(store, spool string) error {
	d, err := local.New(local.Config{Path: store})
	if err != nil {
		return err
	}
	var target storage.Driver = storagetest.NewFaulty(d, storagetest.Fault{
		Method: storagetest.Put, Skip: victimParts,
		Do: func(ctx context.Context, _ string) error {
			for !artifact.SpoolResumable(spool, execution) {
				runtime.Gosched() // the commit saves it any moment
			}
			fmt.Println("half")
			<-ctx.Done()
			return ctx.Err()
		},
	})
	c := config(spool, target)
	c.Compression, c.Concurrency = artifact.NoCompression, 1
	w, err := artifact.NewWriter(context.Background(), c)
	if err != nil {
		return err
	}
	if err := tryDump(w, 999, tenParts()); err != nil {
		return err
	}
	_, err = w.Commit(context.Background(), completion())
	return err
}
