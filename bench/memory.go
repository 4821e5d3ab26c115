package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// memoryLimit is what one backup at a time may take of a worker, whatever the
// size of the database.
const memoryLimit int64 = 200e6

// memory backs up databases of growing size, each with a fresh server.
func memory(ctx context.Context, b *bench) (table, error) {
	t := table{
		title: "Memory of a server that backs up",
		notes: []string{fmt.Sprintf("One backup each, with a fresh server (API and workers in one process). Peaks of resident memory. Aim: the server stays under %s, and does not grow with the database.", megabytes(memoryLimit))},
		head:  []string{"database", "server before", "server at peak", "pg_dump at peak", "wall", "under the limit"},
	}
	for i, part := range []int{5, 100, 400} { // percent of -size
		row, err := b.memoryOf(ctx, int64(b.sizeMB)*1e4*int64(part), numbered("memory", i))
		if err != nil {
			return t, err
		}
		t.add(row...)
	}
	return t, nil
}

func (b *bench) memoryOf(ctx context.Context, bytes int64, name string) (row []string, err error) {
	database := name + "_source"
	b.say("making a database of about %s", megabytes(bytes))
	if err := b.cluster.makeCompany(ctx, database, bytes); err != nil {
		return nil, err
	}
	size, err := b.cluster.databaseSize(ctx, database)
	if err != nil {
		return nil, err
	}
	control, err := b.startControl(ctx, b.servers[0].path, name, "all")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, control.stop()) }()
	job, err := control.job(ctx, b.cluster, database, name)
	if err != nil {
		return nil, err
	}
	before, _ := peakMemory(control.pid())
	w := watchProcesses(ctx, control.pid())
	began := time.Now()
	e, err := control.backUp(ctx, job)
	took := time.Since(began)
	_, all := w.end()
	if err != nil {
		return nil, err
	}
	server := w.memoryOf(control.pid())
	verdict := "yes"
	if server > memoryLimit {
		verdict = "NO"
	}
	b.say("%s: the server took %s", megabytes(size), megabytes(server))
	return []string{megabytes(size), megabytes(before), megabytes(server), megabytes(all - server), seconds(took), verdict},
		errors.Join(control.remove(ctx, e.GetId()), b.cluster.dropDatabase(ctx, database))
}
