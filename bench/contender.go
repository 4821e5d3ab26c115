package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// contender does a job that others do too. prepare and clean are not measured;
// both may be nil.
type contender struct {
	name    string
	prepare func(ctx context.Context) error
	run     func(ctx context.Context) (measurement, error)
	clean   func(ctx context.Context) error
}

// measurement of one run.
type measurement struct {
	wall   time.Duration
	cpu    time.Duration // user and system, of every process that took part
	memory int64         // bytes, at the peak
	bytes  int64         // what was written
}

// standing is what the rounds say about one contender.
type standing struct {
	name string
	all  []measurement
}

func (s standing) median() measurement {
	var walls, cpus []time.Duration
	var memories, sizes []int64
	for _, m := range s.all {
		walls, cpus = append(walls, m.wall), append(cpus, m.cpu)
		memories, sizes = append(memories, m.memory), append(sizes, m.bytes)
	}
	return measurement{wall: median(walls), cpu: median(cpus), memory: median(memories), bytes: median(sizes)}
}

// compete runs all contenders once in each round, in turns: forwards in one
// round, backwards in the next.
func (b *bench) compete(ctx context.Context, contenders []contender) ([]standing, error) {
	standings := make([]standing, len(contenders))
	order := make([]int, len(contenders))
	for i, c := range contenders {
		standings[i].name, order[i] = c.name, i
	}
	for round := range b.rounds {
		for _, i := range order {
			if !b.quick {
				unix.Sync() // what the one before has left to be written is not for this one
			}
			m, err := contenders[i].once(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", contenders[i].name, err)
			}
			b.say("round %d of %d: %s: %s, CPU %s, %s of memory, %s written", round+1, b.rounds, contenders[i].name,
				seconds(m.wall), seconds(m.cpu), megabytes(m.memory), megabytes(m.bytes))
			standings[i].all = append(standings[i].all, m)
		}
		slices.Reverse(order)
	}
	return standings, nil
}

func (c contender) once(ctx context.Context) (m measurement, err error) {
	if c.prepare != nil {
		if err := c.prepare(ctx); err != nil {
			return m, err
		}
	}
	if c.clean != nil {
		defer func() { err = errors.Join(err, c.clean(context.WithoutCancel(ctx))) }()
	}
	return c.run(ctx)
}
