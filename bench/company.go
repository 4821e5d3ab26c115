package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// relation is a table of the generated database. row appends one row in the text
// format of COPY; n counts from 1.
type relation struct {
	name    string
	columns string
	share   int // of the bytes, in percent
	row     func(p *prose, b []byte, n int64) []byte
	after   []string
}

// company is a database like many: master data, orders, events with documents in
// JSON, series of measurements, and longer texts.
func company() []relation {
	return []relation{
		{
			name: "customers", share: 6, row: customer,
			columns: "id bigint, ref uuid, name text, email text, address jsonb, balance numeric(12,2), created_at timestamptz, note text",
			after: []string{
				"ALTER TABLE customers ADD PRIMARY KEY (id)",
				"CREATE UNIQUE INDEX customers_email ON customers (email)",
			},
		},
		{
			name: "orders", share: 22, row: order,
			columns: "id bigint, customer_id bigint, state text, total numeric(12,2), currency char(3), lines jsonb, placed_at timestamptz, note text",
			after: []string{
				"ALTER TABLE orders ADD PRIMARY KEY (id)",
				"CREATE INDEX orders_placed_at ON orders (placed_at)",
			},
		},
		{
			name: "events", share: 36, row: event,
			columns: "id uuid, customer_id bigint, kind text, at timestamptz, source inet, payload jsonb",
			after:   []string{"ALTER TABLE events ADD PRIMARY KEY (id)"},
		},
		{
			name: "measurements", share: 18, row: sample,
			columns: "sensor integer, at timestamptz, value numeric(14,6), quality smallint, deviation double precision",
			after:   []string{"CREATE INDEX measurements_at ON measurements USING brin (at)"},
		},
		{
			name: "documents", share: 18, row: document,
			columns: "id uuid, title text, body text, tags text[], updated_at timestamptz",
			after:   []string{"ALTER TABLE documents ADD PRIMARY KEY (id)"},
		},
	}
}

// copyPercent is how many bytes of COPY's text there are in a hundred bytes
// of the finished database, indexes and all.
const copyPercent = 86

// makeCompany makes a database of about size bytes.
func (c *cluster) makeCompany(ctx context.Context, name string, size int64) error {
	if err := c.CreateDatabase(ctx, name); err != nil {
		return err
	}
	return c.in(ctx, name, func(conn *pgx.Conn) error {
		for i, r := range company() {
			bytes := size / 100 * copyPercent / 100 * int64(r.share)
			if err := r.make(ctx, conn, newProse(uint64(i)), bytes); err != nil {
				return fmt.Errorf("table %s: %w", r.name, err)
			}
		}
		// As a database that has been in use for a while: nothing is left for readers to do.
		return execute(ctx, conn, "VACUUM ANALYZE", "CHECKPOINT")
	})
}

func (r relation) make(ctx context.Context, conn *pgx.Conn, p *prose, bytes int64) error {
	if err := execute(ctx, conn, "BEGIN", "CREATE TABLE "+r.name+" ("+r.columns+")"); err != nil {
		return err
	}
	err := copyIn(ctx, conn, "COPY "+r.name+" FROM STDIN (FREEZE)", func(w io.Writer) error { return r.write(w, p, bytes) })
	if err != nil {
		return err
	}
	return execute(ctx, conn, append(r.after, "COMMIT")...)
}

func (r relation) write(w io.Writer, p *prose, bytes int64) error {
	out := bufio.NewWriterSize(w, 256<<10)
	var row []byte
	for n := int64(1); bytes > 0; n++ {
		row = append(r.row(p, row[:0], n), '\n')
		bytes -= int64(len(row))
		if _, err := out.Write(row); err != nil {
			return err
		}
	}
	return out.Flush()
}

// founded is when the company was founded.
func founded() time.Time { return time.Date(2021, 3, 1, 7, 0, 0, 0, time.UTC) }

func timestamp(b []byte, t time.Time) []byte { return t.AppendFormat(b, "2006-01-02 15:04:05.000-07") }

func decimal(b []byte, value float64, digits int) []byte {
	return strconv.AppendFloat(b, value, 'f', digits, 64)
}

func customer(p *prose, b []byte, n int64) []byte {
	b = append(strconv.AppendInt(b, n, 10), '\t')
	b = append(p.uuid(b), '\t')
	first, last := p.word(), p.word()
	b = fmt.Appendf(b, "%s %s\t%s.%s%d@%s.example\t", first, last, first, last, n, p.pick("mail", "post", "office", "uni"))
	b = fmt.Appendf(b, `{"street": "%s %d", "zip": "%05d", "city": "%s", "country": "%s", "geo": {"lat": %.5f, "lon": %.5f}}`+"\t",
		p.word(), 1+p.IntN(200), p.IntN(99999), p.word(), p.pick("DE", "FR", "PT", "PL", "SE", "IT"), 40+20*p.Float64(), 20*p.Float64())
	b = append(decimal(b, 5000*p.Float64()-500, 2), '\t')
	b = append(timestamp(b, founded().Add(time.Duration(n)*7*time.Minute)), '\t')
	if p.IntN(4) > 0 {
		return append(b, `\N`...)
	}
	return p.sentence(b, 4+p.IntN(20))
}

func order(p *prose, b []byte, n int64) []byte {
	b = fmt.Appendf(b, "%d\t%d\t%s\t%.2f\t%s\t[", n, 1+p.Int64N(max(n/8, 1)), p.pick("placed", "paid", "shipped", "delivered", "delivered", "returned"),
		900*p.Float64(), p.pick("EUR", "EUR", "EUR", "USD", "SEK"))
	for i := range 1 + p.IntN(4) {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = fmt.Appendf(b, `{"sku": "%s-%05d", "title": "%s %s", "quantity": %d, "price": %.2f}`,
			p.pick("A", "B", "K", "X"), p.IntN(20000), p.word(), p.word(), 1+p.IntN(5), 250*p.Float64())
	}
	b = append(b, "]\t"...)
	b = append(timestamp(b, founded().Add(time.Duration(n)*97*time.Second)), '\t')
	if p.IntN(6) > 0 {
		return append(b, `\N`...)
	}
	return p.sentence(b, 3+p.IntN(12))
}

func event(p *prose, b []byte, n int64) []byte {
	b = append(p.uuid(b), '\t')
	kind := p.pick("page.viewed", "page.viewed", "cart.changed", "search", "login", "mail.opened")
	b = fmt.Appendf(b, "%d\t%s\t", 1+p.IntN(200_000), kind)
	b = append(timestamp(b, founded().Add(time.Duration(n)*31*time.Second+time.Duration(p.IntN(1000))*time.Millisecond)), '\t')
	b = fmt.Appendf(b, "10.%d.%d.%d\t", p.IntN(20), p.IntN(256), p.IntN(256))
	b = append(b, `{"session": "`...)
	b = p.uuid(b)
	b = fmt.Appendf(b, `", "path": "/%s/%s/%d", "agent": "%s/%d.%d (%s)", "took_ms": %d, "flags": [%t, %t], "query": "`,
		p.word(), p.word(), p.IntN(5000), p.pick("Browser", "Browser", "App", "Robot"), p.IntN(130), p.IntN(10), p.pick("Linux", "Windows", "Phone"),
		p.IntN(900), p.IntN(2) == 0, p.IntN(9) == 0)
	return append(p.sentence(b, 1+p.IntN(6)), `"}`...)
}

func sample(p *prose, b []byte, n int64) []byte {
	b = append(strconv.AppendInt(b, n%500, 10), '\t')
	b = append(timestamp(b, founded().Add(time.Duration(n/500)*time.Minute+time.Duration(p.IntN(400))*time.Millisecond)), '\t')
	b = append(decimal(b, float64(n%500)+10*p.NormFloat64(), 6), '\t')
	b = append(strconv.AppendInt(b, int64(p.IntN(4)), 10), '\t')
	return strconv.AppendFloat(b, p.NormFloat64(), 'g', -1, 64)
}

func document(p *prose, b []byte, n int64) []byte {
	b = append(p.uuid(b), '\t')
	b = append(p.sentence(b, 3+p.IntN(6)), '\t')
	for range 4 + p.IntN(60) {
		b = append(p.sentence(b, 5+p.IntN(14)), ' ')
	}
	b = fmt.Appendf(b, "\t{%s,%s}\t", p.word(), p.word())
	return timestamp(b, founded().Add(time.Duration(n)*5*time.Minute))
}
