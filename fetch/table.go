package fetch

import (
	"hash/maphash"
	"math"
	"sort"
)

// An entry is one message of a listing.
type entry struct {
	uid    string
	size   int64 // octets, -1 if unknown
	stored int64 // the size in the Store, -1 if unknown
	number int32
	nth    int32 // see Key
	proof  int32 // index in session.proofs plus 1, 0 if there is none
	status status
	flags  flags
}

// A status is the known state of a message.
type status uint8

const (
	statusNew     status = iota // to be fetched, unless the Policy or a failure prevents that
	statusDone                  // delivered by an earlier session
	statusHeader                // its header was delivered by an earlier session
	statusRefused               // refused by the Sink
	statusFetched               // delivered by this session
	statusDropped               // to be deleted without being fetched: see ActionDelete
)

type flags uint8

const (
	flagProven    flags = 1 << iota // it is the message that was recorded
	flagCompare                     // fetch it to compare its header with the proof
	flagReused                      // its unique-id was that of another message
	flagHeader                      // fetch the header only
	flagHadHeader                   // its header was delivered by an earlier session
)

func (e *entry) key() Key { return Key{UID: e.uid, Nth: int(e.nth)} }

// chunkSize is the number of entries that a table allocates at a time.
const chunkSize = 4096

// A table is the listing of a session, found by unique-id and by number. It takes about 80 bytes a message, besides the unique-id.
type table struct {
	chunks [][]entry
	n      int

	sorted bool               // the unique-ids are, and differ
	cursor int                // the entry after the one that withUID found
	seed   maphash.Seed       // of index
	index  []int32            // a hash table with the first entry of each unique-id, plus 1; nil if sorted
	twins  map[string][]int32 // the entries of each unique-id that more than one message has

	ascending bool            // the numbers are
	next      int             // the entry after the one that number found
	numbers   map[int32]int32 // entries by number, if number needs it
}

func newTable() *table { return &table{seed: maphash.MakeSeed(), ascending: true, sorted: true} }

func (t *table) at(i int) *entry { return &t.chunks[i/chunkSize][i%chunkSize] }

// add appends a message, and reports whether its number is valid and not in the table yet.
func (t *table) add(number int, uid string) bool {
	if number > math.MaxInt32 {
		return false
	}
	t.ascending = t.ascending && (t.n == 0 || int32(number) > t.at(t.n-1).number)
	if !t.ascending {
		if _, found := t.find(number); found {
			return false
		}
	}
	t.sorted = t.sorted && (t.n == 0 || uid > t.at(t.n-1).uid)
	if t.n%chunkSize == 0 {
		t.chunks = append(t.chunks, make([]entry, 0, chunkSize))
	}
	last := &t.chunks[len(t.chunks)-1]
	*last = append(*last, entry{uid: uid, size: -1, stored: -1, number: int32(number)})
	if t.numbers != nil {
		t.numbers[int32(number)] = int32(t.n)
	}
	t.n++
	return true
}

// find returns the entry of a message number. It is fast if the numbers come in the order of the table.
func (t *table) find(number int) (i int, found bool) {
	if t.next < t.n && int(t.at(t.next).number) == number {
		t.next++
		return t.next - 1, true
	}
	if number < 1 || number > math.MaxInt32 {
		return 0, false
	}
	if t.ascending {
		i := sort.Search(t.n, func(i int) bool { return int(t.at(i).number) >= number })
		if i == t.n || int(t.at(i).number) != number {
			return 0, false
		}
		t.next = i + 1
		return i, true
	}
	if t.numbers == nil {
		t.numbers = make(map[int32]int32, t.n)
		for i := range t.n {
			t.numbers[t.at(i).number] = int32(i)
		}
	}
	n, found := t.numbers[int32(number)]
	return int(n), found
}

// indexUIDs makes the entries known by unique-id, and numbers those that share one.
func (t *table) indexUIDs() {
	if t.sorted {
		return
	}
	size := 16
	for size < 2*t.n {
		size *= 2
	}
	t.index = make([]int32, size)
	for i := range t.n {
		e := t.at(i)
		slot := t.slot(e.uid)
		first := t.index[slot]
		if first == 0 {
			t.index[slot] = int32(i) + 1
			continue
		}
		if t.twins == nil {
			t.twins = make(map[string][]int32)
		}
		twins := t.twins[e.uid]
		if twins == nil {
			twins = []int32{first - 1}
		}
		e.nth = int32(len(twins))
		t.twins[e.uid] = append(twins, int32(i))
	}
}

// slot returns the slot of a unique-id in the index, or the slot in which to insert it.
func (t *table) slot(uid string) int {
	mask := len(t.index) - 1
	slot := int(maphash.String(t.seed, uid)) & mask
	for t.index[slot] != 0 && t.at(int(t.index[slot])-1).uid != uid {
		slot = (slot + 1) & mask
	}
	return slot
}

// withUID returns the first entry with a unique-id, or -1. It is fast if the unique-ids come in the order of the table.
func (t *table) withUID(uid string) int {
	if t.cursor < t.n && t.at(t.cursor).uid == uid && t.twins == nil {
		t.cursor++
		return t.cursor - 1
	}
	var i int
	if t.sorted {
		i = sort.Search(t.n, func(i int) bool { return t.at(i).uid >= uid })
		if i == t.n || t.at(i).uid != uid {
			return -1
		}
	} else {
		i = int(t.index[t.slot(uid)]) - 1
	}
	t.cursor = i + 1
	return i
}
