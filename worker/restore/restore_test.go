package restore_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"filippo.io/age"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
)

const manifest = "manifest.json"

// redigest completes an edited manifest as the format says, as an attacker would.
func redigest(document []byte) []byte {
	const field = `"manifest_sha256": "`
	at := bytes.LastIndex(document, []byte(field)) + len(field)
	copy(document[at:], strings.Repeat("0", 64))
	sum := sha256.Sum256(document)
	hex.Encode(document[at:], sum[:])
	return document
}

func swap(w *world) {
	a, b := w.file(0, w.part(0)), w.file(0, w.part(1))
	first, err := os.ReadFile(a)
	require.NoError(w.t, err)
	second, err := os.ReadFile(b)
	require.NoError(w.t, err)
	require.NoError(w.t, os.WriteFile(a, second, 0o600))
	require.NoError(w.t, os.WriteFile(b, first, 0o600))
}

// damages are what can happen to the first copy.
var damages = map[string]func(w *world){
	"a bit of the first part flipped": func(w *world) {
		w.edit(0, w.part(0), func(b []byte) []byte { b[3] ^= 1; return b })
	},
	"a bit of the last part flipped": func(w *world) {
		w.edit(0, w.part(2), func(b []byte) []byte { b[len(b)-1] ^= 0x80; return b })
	},
	"the first part one byte short": func(w *world) {
		w.edit(0, w.part(0), func(b []byte) []byte { return b[:len(b)-1] })
	},
	"a part empty": func(w *world) {
		w.edit(0, w.part(1), func([]byte) []byte { return nil })
	},
	"a part longer": func(w *world) {
		w.edit(0, w.part(1), func(b []byte) []byte { return append(b, 0) })
	},
	"cut off at the end of a part": func(w *world) { require.NoError(w.t, os.Remove(w.file(0, w.part(2)))) },
	"two parts swapped":            swap,
	"the manifest edited": func(w *world) {
		w.edit(0, manifest, func(b []byte) []byte { return bytes.Replace(b, []byte(`"rows": 3`), []byte(`"rows": 4`), 1) })
	},
	"the manifest edited with a new digest, for swapped parts": func(w *world) {
		swap(w)
		first, second := w.backup.Parts[0].SHA256, w.backup.Parts[1].SHA256
		w.edit(0, manifest, func(b []byte) []byte {
			text := strings.NewReplacer(first, second, second, first).Replace(string(b))
			return redigest([]byte(text))
		})
	},
	"the manifest of another backup": func(w *world) {
		other := strings.Replace(backupID, "1111", "3333", 1)
		w.edit(0, manifest, func(b []byte) []byte { return redigest(bytes.ReplaceAll(b, []byte(backupID), []byte(other))) })
	},
	"the manifest gone": func(w *world) { require.NoError(w.t, os.Remove(w.file(0, manifest))) },
}

func outcomes(r execution.Result) []execution.SourceOutcome {
	var all []execution.SourceOutcome
	for _, s := range r.Record.Sources {
		all = append(all, s.Outcome)
	}
	return all
}

func TestDamageIsFoundBeforeTheTargetIsTouched(t *testing.T) {
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1)
			damage(w)
			r := w.does(execution.Restore, execution.RestoreRequest{DropExisting: true})
			require.Equal(t, errs.CodeArtifactCorrupt, r.ErrorCode, r.ErrorMessage)
			require.Zero(t, w.database.touched)
			require.Equal(t, []execution.SourceOutcome{execution.SourceDamaged}, outcomes(r))
			require.Equal(t, backup.CopyMissing, w.marked["first"], "people see it")
		})
		t.Run(name+", and a second copy", func(t *testing.T) {
			w := newWorld(t, 2)
			damage(w)
			r := w.does(execution.Restore, execution.RestoreRequest{DropExisting: true, StorageLocationID: "first"})
			require.Equal(t, execution.Completed, r.Status, r.ErrorMessage)
			require.Equal(t, w.dump, w.database.content)
			require.Equal(t, 1, w.database.touched)
			require.Equal(t, []execution.SourceOutcome{execution.SourceDamaged, execution.SourceUsed}, outcomes(r))
			require.Equal(t, map[string]backup.CopyStatus{"first": backup.CopyMissing}, w.marked)
			require.Empty(t, w.left)
		})
	}
}

func TestAVerificationLooksAtEveryCopyAndTakesBackWhatWasWrong(t *testing.T) {
	w := newWorld(t, 3)
	w.edit(0, w.part(1), func(b []byte) []byte { b[0] ^= 1; return b })
	w.backup.Copies[1].Status = backup.CopyMissing // it was, and is back
	r := w.does(execution.Verify, execution.RestoreRequest{})
	require.Equal(t, errs.CodeArtifactCorrupt, r.ErrorCode, r.ErrorMessage)
	require.Contains(t, r.ErrorMessage, "1 of 3")
	require.ElementsMatch(t, []execution.SourceOutcome{execution.SourceDamaged, execution.SourceProven, execution.SourceProven}, outcomes(r))
	require.Equal(t, map[string]backup.CopyStatus{"first": backup.CopyMissing, "second": backup.CopyAvailable}, w.marked)
	require.Zero(t, w.database.touched)

	only := newWorld(t, 2)
	only.edit(0, only.part(1), func(b []byte) []byte { b[0] ^= 1; return b })
	r = only.does(execution.Verify, execution.RestoreRequest{StorageLocationID: "second"})
	require.Equal(t, execution.Completed, r.Status, r.ErrorMessage)
	require.Len(t, r.Record.Sources, 1)
}

func TestAStorageThatDiesIsLeftForTheNext(t *testing.T) {
	down := func(string) error { return errNetwork }
	for _, storages := range []int{1, 2} {
		for when, prepare := range map[string]func(w *world){
			"before": func(w *world) { w.faults["first"] = down },
			"while it is proven": func(w *world) {
				w.faults["first"] = func(base string) error {
					if base == w.part(1) {
						return errNetwork
					}
					return nil
				}
			},
			"while it is restored": func(w *world) {
				var opened atomic.Int32 // parts are proven side by side
				w.faults["first"] = func(base string) error {
					if base == w.part(2) {
						opened.Add(1)
					}
					if opened.Load() > 1 { // it was proven before
						return errNetwork
					}
					return nil
				}
			},
		} {
			t.Run(when+" of "+name(storages-1), func(t *testing.T) {
				w := newWorld(t, storages)
				prepare(w)
				r := w.does(execution.Restore, execution.RestoreRequest{DropExisting: true})
				if storages == 2 {
					require.Equal(t, execution.Completed, r.Status, r.ErrorMessage)
					require.Equal(t, w.dump, w.database.content)
				} else {
					require.Equal(t, errs.CodeStorageUnavailable, r.ErrorCode, r.ErrorMessage)
					require.Equal(t, []execution.SourceOutcome{execution.SourceUnreadable}, outcomes(r))
				}
				require.Empty(t, w.marked, "what cannot be read is not damaged")
				require.Empty(t, w.left)
			})
		}
	}
}

func TestAKeyThatDoesNotFitIsToldBeforeAnythingElse(t *testing.T) {
	right, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	wrong, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	w := newWorld(t, 2, right.Recipient().String())
	w.identity = wrong
	r := w.does(execution.Restore, execution.RestoreRequest{DropExisting: true})
	require.Equal(t, errs.CodeDecryptionFailed, r.ErrorCode, r.ErrorMessage)
	require.False(t, w.database.asked)
	require.Empty(t, w.marked)

	w.identity = right
	r = w.does(execution.Restore, execution.RestoreRequest{DropExisting: true})
	require.Equal(t, execution.Completed, r.Status, r.ErrorMessage)
	require.Equal(t, w.dump, w.database.content)
}

func TestACopyMiswrittenInsideIsNeverTakenForWhole(t *testing.T) {
	// Its parts are as they were written; what comes out of them is not what was dumped.
	miswrite := func(w *world) {
		w.edit(0, manifest, func(b []byte) []byte {
			const field = `"raw_sha256": "`
			at := bytes.Index(b, []byte(field)) + len(field)
			copy(b[at:], strings.Repeat("0", 64))
			return redigest(b)
		})
	}
	for _, inPlace := range []bool{false, true} {
		w := newWorld(t, 1)
		miswrite(w)
		w.database.inPlace = inPlace
		w.backup.Copies[0].Status = backup.CopyMissing // a verification has found it
		r := w.does(execution.Restore, execution.RestoreRequest{})
		require.Equal(t, errs.CodeArtifactCorrupt, r.ErrorCode, r.ErrorMessage)
		require.Equal(t, map[string]backup.CopyStatus{"first": backup.CopyMissing}, w.marked)
		require.Equal(t, inPlace, w.database.touched == 0, "one that changes itself is not touched, one beside it may be")
	}

	w := newWorld(t, 2)
	miswrite(w)
	w.database.hasty = true
	r := w.does(execution.Restore, execution.RestoreRequest{StorageLocationID: "first"})
	require.Equal(t, errs.CodeArtifactCorrupt, r.ErrorCode, r.ErrorMessage)
	require.Contains(t, r.ErrorMessage, `database "shop" has changed`)
	require.Equal(t, 1, w.database.touched, "another copy does not make that good")
	require.Equal(t, map[string]backup.CopyStatus{"first": backup.CopyMissing}, w.marked)

	w = newWorld(t, 1)
	w.backup.Copies[0].Status = backup.CopyMissing
	r = w.does(execution.Restore, execution.RestoreRequest{})
	require.Equal(t, execution.Completed, r.Status, r.ErrorMessage)
	require.Equal(t, map[string]backup.CopyStatus{"first": backup.CopyAvailable}, w.marked, "it was read to its end")
}

// A database that changes itself reads what it needs of a backup that was proven, and that
// is proven again.
func TestTheSecondReadingEndsWithWhatIsNeeded(t *testing.T) {
	for name, tc := range map[string]struct {
		part    int // that is not what it was when it is read again
		inPlace bool
		fails   bool
	}{
		"a part behind is gone":               {part: 2, inPlace: true},
		"its own part is another":             {part: 0, inPlace: true, fails: true},
		"beside it what is inside is unknown": {part: 2, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorldOf(t, artifact.NoCompression, 1<<20, 1) // a part of several chunks, of which the last alone waits for the proof
			w.database.inPlace, w.database.needs = tc.inPlace, 100
			opened := 0
			w.faults["first"] = func(base string) error {
				if base != w.part(tc.part) {
					return nil
				}
				if opened++; opened == 2 {
					w.edit(0, base, func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
				}
				return nil
			}
			r := w.does(execution.Restore, execution.RestoreRequest{DropExisting: true, IncludeTables: []string{"orders"}})
			if tc.fails {
				require.Equal(t, errs.CodeArtifactCorrupt, r.ErrorCode, r.ErrorMessage)
				require.Nil(t, w.database.content)
				require.Equal(t, backup.CopyMissing, w.marked["first"])
				return
			}
			require.Equal(t, execution.Completed, r.Status, r.ErrorMessage)
			require.Equal(t, w.dump[:100], w.database.content)
		})
	}
}

// What was found damaged after it was proven is not taken back by a restore that has not
// read it again.
func TestAReadingThatEndsEarlySaysNothingOfTheCopy(t *testing.T) {
	w := newWorldOf(t, artifact.NoCompression, 1<<20, 1)
	w.database.inPlace, w.database.needs = true, 100
	w.backup.Copies[0].Status = backup.CopyMissing
	opened := 0
	w.faults["first"] = func(base string) error {
		if base == w.part(0) {
			opened++
		}
		if opened == 2 { // a verification finds it
			return catalogue{w}.mark(w.backup.Copies[0], backup.CopyMissing)
		}
		return nil
	}
	r := w.does(execution.Restore, execution.RestoreRequest{DropExisting: true, IncludeTables: []string{"orders"}})
	require.Equal(t, execution.Completed, r.Status, r.ErrorMessage)
	require.Equal(t, backup.CopyMissing, w.marked["first"])
}

func TestAKeyThatNobodyNamedLetsAVerificationProveWhatIsStored(t *testing.T) {
	right, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	wrong, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	w := newWorld(t, 3, right.Recipient().String())
	w.identity = wrong
	w.backup.Copies[2].Status = backup.CopyMissing
	r := w.does(execution.Verify, execution.RestoreRequest{})
	require.Equal(t, execution.Completed, r.Status, r.ErrorMessage)
	require.Equal(t, []execution.SourceOutcome{execution.SourceProven, execution.SourceProven, execution.SourceProven}, outcomes(r))
	require.Contains(t, fmt.Sprint(r.Record.Checked), "decoded:false")
	require.Contains(t, fmt.Sprint(w.lines), "Only the stored bytes")
	require.Contains(t, fmt.Sprint(w.lines), "stays so")
	require.Empty(t, w.marked, "what is inside may have been the damage")

	w.edit(0, w.part(0), func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
	r = w.does(execution.Verify, execution.RestoreRequest{})
	require.Equal(t, errs.CodeArtifactCorrupt, r.ErrorCode, r.ErrorMessage)
	require.Equal(t, map[string]backup.CopyStatus{"first": backup.CopyMissing}, w.marked)

	r = w.does(execution.Verify, execution.RestoreRequest{Identity: "named"})
	require.Equal(t, errs.CodeDecryptionFailed, r.ErrorCode, r.ErrorMessage)
	require.NotNil(t, r.Record.Checked)
}

func TestAnIdentityThatIsNotNeededIsTold(t *testing.T) {
	w := newWorld(t, 1)
	said := func() string { return fmt.Sprint(w.lines) }
	r := w.does(execution.Verify, execution.RestoreRequest{})
	require.Equal(t, execution.Completed, r.Status, r.ErrorMessage)
	require.NotContains(t, said(), "not encrypted")
	for _, operation := range []execution.Operation{execution.Verify, execution.Restore} {
		w.lines = nil
		r = w.does(operation, execution.RestoreRequest{Identity: "mine", DropExisting: true})
		require.Equal(t, execution.Completed, r.Status, r.ErrorMessage)
		require.Contains(t, said(), `not encrypted: the identity "mine" is not needed`, operation)
	}
}

func TestATargetThatCannotTakeItIsToldBeforeTheBackupIsRead(t *testing.T) {
	w := newWorld(t, 2)
	w.faults["first"] = func(base string) error {
		require.Equal(t, manifest, base, "a part was read")
		return nil
	}
	w.database.refusal = errs.New(errs.Conflict, errs.CodeRestoreNotSupported, "the dump is from 17 and the target is 15")
	r := w.does(execution.Restore, execution.RestoreRequest{DropExisting: true})
	require.Equal(t, errs.CodeRestoreNotSupported, r.ErrorCode)
	require.Zero(t, w.database.touched)

	w.database.refusal, w.busy = nil, true
	r = w.does(execution.Restore, execution.RestoreRequest{DropExisting: true})
	require.Equal(t, errs.CodeExecutionRunning, r.ErrorCode, "by another name it is the same database")
	require.Zero(t, w.database.touched)

	w.busy, w.database.silence = false, errs.New(errs.Unavailable, errs.CodeDatasourceLost, "the connection broke")
	r = w.does(execution.Restore, execution.RestoreRequest{DropExisting: true})
	require.Equal(t, errs.CodeDatasourceLost, r.ErrorCode, "it may be DataGuardian's own")
	require.Zero(t, w.database.touched)
	require.Empty(t, w.held)

	delete(w.faults, "first")
	w.database.silence = errs.New(errs.Unavailable, errs.CodeDatasourcePermission, "only a superuser may ask")
	r = w.does(execution.Restore, execution.RestoreRequest{DropExisting: true})
	require.Equal(t, execution.Completed, r.Status, r.ErrorMessage)
	require.Empty(t, w.held)

	w.database.silence = nil
	r = w.does(execution.Restore, execution.RestoreRequest{DropExisting: true})
	require.Equal(t, execution.Completed, r.Status, r.ErrorMessage)
	require.Equal(t, []string{execution.TargetKey("server", "shop")}, w.held)
}

func TestAVerificationNamesWhatDiffers(t *testing.T) {
	yes, five := [][]any{{true}}, "5"
	request := execution.RestoreRequest{VerificationMode: true, Assertions: []backup.Assertion{
		{Name: "there are orders", SQL: "SELECT true"}, {Name: "five of them", SQL: "SELECT 5", Expect: &five},
	}}
	scratch := "shop_verify_" + restoreID[:8]
	for name, c := range map[string]struct {
		rows    map[string]int64
		answers map[string][][]any
		want    []string // of the message; none: it completes
	}{
		"nothing":         {map[string]int64{"orders": 3}, map[string][][]any{"SELECT true": yes, "SELECT 5": {{5.0}}}, nil},
		"a count":         {map[string]int64{"orders": 2}, map[string][][]any{"SELECT true": yes, "SELECT 5": {{5.0}}}, []string{"public.orders", "3 rows", "has 2"}},
		"a missing table": {map[string]int64{}, map[string][][]any{"SELECT true": yes, "SELECT 5": {{5.0}}}, []string{"public.orders", "3 rows", "not there"}},
		"an assertion":    {map[string]int64{"orders": 3}, map[string][][]any{"SELECT true": yes, "SELECT 5": {{"4"}}}, []string{`"five of them"`, `expects "5" and got "4"`}},
		"two of them":     {map[string]int64{"orders": 3}, map[string][][]any{"SELECT true": {{false}}, "SELECT 5": {}}, []string{`"there are orders"`, `"true"`, `"false"`, "1 more"}},
		"a refusal":       {map[string]int64{"orders": 3}, map[string][][]any{"SELECT true": yes}, []string{`"five of them"`, "syntax error"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1)
			w.database.rows, w.database.answers = c.rows, c.answers
			r := w.does(execution.Restore, request)
			if c.want == nil {
				require.Equal(t, execution.Completed, r.Status, r.ErrorMessage)
			} else {
				require.Equal(t, errs.CodeVerificationFailed, r.ErrorCode, r.ErrorMessage)
			}
			for _, words := range c.want {
				require.Contains(t, r.ErrorMessage, words)
			}
			require.Len(t, r.Record.Checked["assertions"], 2)
			require.Equal(t, []string{scratch}, w.database.dropped)
			require.Equal(t, true, r.Record.Checked["dropped"])
			require.Empty(t, w.left)
			require.Empty(t, w.held, "it has a database of its own")
		})
	}
}

func TestAVerificationComparesSchemasThatAreToldAlike(t *testing.T) {
	for other, want := range map[engine.SchemaDigest]execution.Status{
		schema: execution.Completed,
		engine.NewSchemaDigest("test", []string{"CREATE VIEW orders"}):    execution.Failed,
		engine.NewSchemaDigest("another", []string{"CREATE VIEW orders"}): execution.Completed,
	} {
		w := newWorld(t, 1)
		w.database.schema = other
		r := w.does(execution.Restore, execution.RestoreRequest{VerificationMode: true})
		require.Equal(t, want, r.Status, r.ErrorMessage)
		if want == execution.Failed {
			require.Equal(t, errs.CodeVerificationFailed, r.ErrorCode)
			require.Contains(t, r.ErrorMessage, string(other))
			require.Contains(t, r.ErrorMessage, string(schema))
		}
		checked, ok := r.Record.Checked["schema"].(map[string]any)
		require.True(t, ok)
		require.Equal(t, string(other), checked["restored"])
	}
}

// What was not compared is said where people look, also of backups from before there
// were fingerprints.
func TestAVerificationSaysWhatItDidNotCompare(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(w *world)
		request execution.RestoreRequest
		why     string
	}{
		"an old manifest": {func(w *world) {
			w.edit(0, manifest, func(b []byte) []byte {
				old := regexp.MustCompile(` *"schema_digest": "[^"]*",\n`).ReplaceAll(b, nil)
				require.Less(w.t, len(old), len(b))
				return redigest(old)
			})
		}, execution.RestoreRequest{VerificationMode: true}, "no fingerprint"},
		"no tool": {func(w *world) {
			w.database.blind = errs.New(errs.Unavailable, errs.CodeDumpToolMissing, "no pg_dump is installed")
		}, execution.RestoreRequest{VerificationMode: true}, "no pg_dump is installed"},
		"another wording": {func(w *world) { w.database.schema = engine.NewSchemaDigest("another", nil) }, execution.RestoreRequest{VerificationMode: true}, "told here by another"},
		"some tables":     {func(*world) {}, execution.RestoreRequest{VerificationMode: true, IncludeTables: []string{"orders"}}, "only some tables"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1)
			c.prepare(w)
			r := w.does(execution.Restore, c.request)
			require.Equal(t, execution.Completed, r.Status, r.ErrorMessage)
			require.Len(t, r.Record.Checked["warnings"], 1)
			require.Contains(t, fmt.Sprint(r.Record.Checked["warnings"]), c.why)
			found, ok := r.Record.Checked["schema"].(map[string]any)
			require.True(t, ok)
			require.Equal(t, "not comparable", found["outcome"])
			require.Contains(t, found["reason"], c.why)
		})
	}
}

func TestABackupOfANewerProgramIsRefusedAndNotMarked(t *testing.T) {
	for _, operation := range []execution.Operation{execution.Restore, execution.Verify} {
		w := newWorld(t, 2)
		for i := range 2 {
			w.edit(i, manifest, func(b []byte) []byte {
				return redigest(bytes.Replace(b, []byte(`"version": 1`), []byte(`"version": 2`), 1))
			})
		}
		r := w.does(operation, execution.RestoreRequest{DropExisting: true})
		require.Equal(t, errs.CodeArtifactTooNew, r.ErrorCode, r.ErrorMessage)
		require.Contains(t, r.ErrorMessage, "upgrade DataGuardian")
		require.Zero(t, w.database.touched)
		require.Empty(t, w.marked, "nothing is wrong with it")
	}
}

func TestAScratchDatabaseThatStaysIsToldAndNotForgotten(t *testing.T) {
	w := newWorld(t, 1)
	w.database.dropping = errs.New(errs.Unavailable, errs.CodeDatasourceLost, "the server went away")
	r := w.does(execution.Restore, execution.RestoreRequest{VerificationMode: true})
	require.Equal(t, execution.Completed, r.Status, r.ErrorMessage)
	require.Equal(t, false, r.Record.Checked["dropped"])
	require.Equal(t, []execution.Leftovers{{ExecutionID: restoreID, DatasourceID: "target", Database: "shop_verify_" + restoreID[:8]}}, w.left)
	var said []string
	for _, line := range r.Logs {
		if line.Level == engine.LevelWarn {
			said = append(said, line.Message)
		}
	}
	require.Contains(t, strings.Join(said, "\n"), "the server went away")

	kept := newWorld(t, 1)
	r = kept.does(execution.Restore, execution.RestoreRequest{VerificationMode: true, KeepVerificationDatabase: true})
	require.Equal(t, execution.Completed, r.Status, r.ErrorMessage)
	require.Empty(t, kept.database.dropped)
	require.Empty(t, kept.left)
}

func TestACancellationDoesNotHideThatTheTargetIsTorn(t *testing.T) {
	w := newWorld(t, 1)
	w.database.torn = errs.Wrap(engine.ErrUnsettled, errs.Cancelled, errs.CodeCancelled, "its old tables are in database %q", "dg_replaced_1")
	r := w.does(execution.Restore, execution.RestoreRequest{})
	require.Equal(t, execution.Cancelled, r.Status, r.ErrorMessage)
	require.Contains(t, r.ErrorMessage, "dg_replaced_1")
}

func TestWhatWasDoneWhenItWasCancelledIsDoneAndSaysSo(t *testing.T) {
	w := newWorld(t, 1)
	w.database.late = true
	r := w.does(execution.Restore, execution.RestoreRequest{})
	require.Equal(t, execution.Completed, r.Status, r.ErrorMessage)
	require.Contains(t, fmt.Sprint(r.Logs), "Everything was done already when this came: cancelled on request")
}
