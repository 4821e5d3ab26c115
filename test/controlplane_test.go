package test

import (
	"testing"

	"github.com/dataguardian/dataguardian/test/harness"
)

// scenario is a test that shares a running control plane with others: it looks
// only at what it made itself.
type scenario func(t *testing.T, s *harness.Server)

// What must always hold is checked after all of them, see harness.
func TestARunningControlPlane(t *testing.T) {
	t.Parallel()
	s := harness.NewPlane(t).Serve(t, "server")
	for name, run := range map[string]scenario{
		"completes a backup that REST and gRPC describe as the contract says": backupIsDescribedAsTheContractSays,
		"shows every line of a running backup at every moment":                logsAreCompleteAtEveryMoment,
		"streams a log from the beginning to the end in both formats":         streamsReplayAndFollow,
		"tells of all executions, once, and goes on after any event":          eventsGoOnAfterAnyId,
		"follows executions on the command line and on a terminal":            executionsAreFollowed,
		"shows a token with a scope nothing else":                             aScopeShowsNothingElse,
		"is watched by each of the examples":                                  examplesWatch,
		"keeps three backups when the policy says three":                      retentionRemovesTheOldest,
		"deletes objects before it calls a backup deleted":                    retentionWaitsForTheObjects,
		"runs a job once at a time":                                           aJobRunsOnceAtATime,
		"cancels a running backup":                                            aRunningBackupIsCancelled,
		"leaves a target whose disk is full as it was":                        aFullDiskOfTheTargetLeavesItAsItWas,
		"leaves a target of MariaDB whose disk is full as it was":             aFullDiskOfMariaDBLeavesTheTargetAsItWas,
		"shows a damaged copy until it is whole again":                        damagedCopiesAreShownUntilTheyAreWholeAgain,
		"deletes an execution that has ended with what it stored":             anExecutionIsDeletedWithItsObjects,
		"names why a database cannot be backed up":                            databasesThatCannotBeBackedUp,
		"names why a storage cannot be used":                                  storagesThatCannotBeUsed,
		"refuses a job without its datasource":                                jobsThatNameNothing,
		"keeps what is in use":                                                whatIsInUseStays,
		"refuses bad input on both sides":                                     badInputIsRefused,
		"takes names literally":                                               namesAreLiteral,
		"takes paths literally":                                               pathsAreLiteral,
		"lets nobody in without a credential":                                 nobodyComesInWithoutACredential,
		"bounds everybody by role and scope, and writes down who did what":    accessIsBounded,
		"streams nothing beyond a scope, by any streaming RPC":                streamsAreBoundedByScope,
		"streams what comes into a scope and nothing that has left it":        tagsComeAndGo,
		"ends streams with their credential":                                  streamsEndWithTheirCredential,
		"sends no secret to another place":                                    secretsDoNotTravel,
		"does not reach where its callers could not":                          metadataAddressesAreNotReached,
		"rotates its key while it backs up":                                   theKeyIsRotatedMeanwhile,
		"asks clients for certificates":                                       clientsShowCertificates,
		"is driven by its command line":                                       commandLine,
		"shows no secret to other processes while a dump runs":                noSecretInTheProcessList,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, s)
		})
	}
}
