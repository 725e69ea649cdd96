"""What the tests of broken connections, killed writers and crashed servers share: real ones, nothing mocked."""
