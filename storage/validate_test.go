package storage_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/local"
	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/stretchr/testify/require"
)

func faulty(t *testing.T, faults ...storagetest.Fault) *storagetest.Faulty {
	t.Helper()
	d, err := local.New(local.Config{Path: t.TempDir()})
	require.NoError(t, err)
	f := storagetest.NewFaulty(d, faults...)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

func count(t *testing.T, d storage.Driver) int {
	t.Helper()
	n := 0
	for _, err := range d.List(t.Context(), "") {
		require.NoError(t, err)
		n++
	}
	return n
}

func TestValidateReportsAGoodStorageAndLeavesNothing(t *testing.T) {
	d := faulty(t)
	for _, large := range []bool{false, true} {
		report, err := storage.Validate(t.Context(), d, storage.ValidateOptions{Large: large})
		require.NoError(t, err)
		require.True(t, report.Exclusive)
		require.Positive(t, report.Latency)
		require.NotNil(t, report.Available)
		require.Positive(t, *report.Available)
		require.Zero(t, count(t, d))
	}
}

func TestValidateNamesTheStepThatFailsAndCleansUp(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault storagetest.Fault
		step  string
		code  errs.Code
	}{
		{"no writing", storagetest.Fault{Method: storagetest.Put, Err: storage.ErrPermission}, "write", errs.CodeStorageAuth},
		{"full", storagetest.Fault{Method: storagetest.Put, Err: storage.ErrFull}, "write", errs.CodeStorageFull},
		{"losing bytes", storagetest.Fault{Method: storagetest.Put, Truncate: 1}, "stat", errs.CodeStorageUnavailable},
		{"damaging bytes", storagetest.Fault{Method: storagetest.Put, Corrupt: true}, "read", errs.CodeStorageUnavailable},
		{"exclusive writes fail", storagetest.Fault{Method: storagetest.Put, Skip: 1, Err: errors.New("501")}, "write without replacing", errs.CodeStorageUnavailable},
		{"no stat", storagetest.Fault{Method: storagetest.Stat, Err: storage.ErrPermission}, "stat", errs.CodeStorageAuth},
		{"no reading", storagetest.Fault{Method: storagetest.Open, Err: storage.ErrPermission}, "read", errs.CodeStorageAuth},
		{"reading breaks off", storagetest.Fault{Method: storagetest.Open, Err: errors.New("reset"), AfterBytes: 10}, "read", errs.CodeStorageUnavailable},
		{"ranges are damaged", storagetest.Fault{Method: storagetest.Open, Skip: 1, Corrupt: true}, "read a range", errs.CodeStorageUnavailable},
		{"no listing", storagetest.Fault{Method: storagetest.List, Err: storage.ErrPermission}, "list", errs.CodeStorageAuth},
		{"large objects fail", storagetest.Fault{Method: storagetest.Put, Skip: 2, Err: storage.ErrFull}, "write a large object", errs.CodeStorageFull},
		{"deleting fails once", storagetest.Fault{Method: storagetest.Delete, Times: 1, Err: storage.ErrPermission}, "delete", errs.CodeStorageAuth},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := faulty(t, c.fault)
			report, err := storage.Validate(t.Context(), d, storage.ValidateOptions{Large: true})
			require.Error(t, err)
			e := errs.As(err)
			require.Equal(t, c.code, e.Code, "%v", err)
			require.Equal(t, c.step, e.Details["step"])
			require.NotContains(t, e.Details, "left_behind")
			require.Equal(t, c.step, report.Steps[len(report.Steps)-1].Name)
			d.Heal()
			require.Zero(t, count(t, d))
		})
	}
}

func TestValidateSaysWhatItCouldNotRemove(t *testing.T) {
	d := faulty(t, storagetest.Fault{Method: storagetest.Delete, Err: storage.ErrPermission})
	_, err := storage.Validate(t.Context(), d, storage.ValidateOptions{})
	left := errs.As(err).Details["left_behind"]
	require.True(t, strings.HasPrefix(fmt.Sprint(left), storage.ValidatePrefix), "%v", left)
	d.Heal()
	_, err = d.Stat(t.Context(), fmt.Sprint(left))
	require.NoError(t, err)
}

func TestValidateCleansUpAlsoWhenItIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	d := faulty(t, storagetest.Fault{Method: storagetest.Stat, Do: func(context.Context, string) error {
		cancel()
		return ctx.Err()
	}})
	_, err := storage.Validate(ctx, d, storage.ValidateOptions{})
	require.Equal(t, errs.CodeCancelled, errs.CodeOf(err))
	d.Heal()
	require.Zero(t, count(t, d))
}
