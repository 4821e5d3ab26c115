package artifact_test

// actAsVictim turns this process into one that is killed in the middle of its
// work, when the test that started it says so.
func actAsVictim() {}
