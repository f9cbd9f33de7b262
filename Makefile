# The words of this project; continuous integration runs `make test`.

PREFIX ?= /usr/local/weir
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
TOOLS := $(CURDIR)/target/tools/bin

.PHONY: demo check test chaos bench install uninstall deb

# Three sample backends, a Consul-compatible endpoint and weir; Ctrl-C ends it all.
demo:
	$(CARGO) run --release -- demo

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

# Most tests wait for something most of the time: more of them run at once than there are CPUs.
TEST_THREADS ?= 6

# Unpacks what is missing (tests/setup), then everything that has to hold.
test:
	tests/setup consul etcd nginx haproxy strace python3 curl slowhttptest
	$(MAKE) check
	PATH="$(TOOLS):$$PATH" RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test --workspace --no-fail-fast

# Everything at once under load of every kind, by a seed: reloads, signals, killed processes, changes in
# Consul and its restarts. SECONDS= and SEED= set how long and which; it prints both. `make test` has a short run.
SEED ?= $(shell date +%s)
chaos:
	tests/setup consul
	PATH="$(TOOLS):$$PATH" CHAOS_SECONDS=$(or $(SECONDS),60) CHAOS_SEED=$(SEED) \
		$(CARGO) test -p weir --test e2e -- --nocapture chaos::

# weir, nginx and HAProxy side by side; ROUNDS= and SECONDS= set how many and how long, ONLY= a part of
# a workload's name. Then how soon a change in Consul is live on all workers, what large tables cost, what
# reloads and dead workers cost beside nginx, and the parts on their own.
bench:
	tests/setup consul nginx haproxy strace wrk
	$(CARGO) build --release --workspace --bins
	PATH="$(TOOLS):$$PATH" $(TARGET)/release/compare
	PATH="$(TOOLS):$$PATH" $(TARGET)/release/changes
	PATH="$(TOOLS):$$PATH" $(TARGET)/release/scale
	PATH="$(TOOLS):$$PATH" $(TARGET)/release/lifecycle
	$(TARGET)/release/micro

# `dev` where a quick build is enough.
PROFILE ?= release
BUILT = $(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

# Binaries, manual pages, completions, a unit for systemd, configuration and an empty log folder under PREFIX, which becomes
# weir's default prefix. A configuration that is there already is kept; the new one then lies beside it as NAME.default.
install:
	@case "$(PREFIX)" in /*) ;; *) echo "PREFIX has to begin with /: $(PREFIX)" >&2; exit 1 ;; esac
	WEIR_PREFIX="$(PREFIX)" $(CARGO) build --profile $(PROFILE) --bins
	install -d "$(DESTDIR)$(PREFIX)/sbin" "$(DESTDIR)$(PREFIX)/conf" "$(DESTDIR)$(PREFIX)/logs"
	install -m 755 "$(BUILT)/weir" "$(BUILT)/weirctl" "$(DESTDIR)$(PREFIX)/sbin"
	install -d "$(DESTDIR)$(PREFIX)/share/man/man1" "$(DESTDIR)$(PREFIX)/share/man/man8" "$(DESTDIR)$(PREFIX)/share/completions"
	"$(BUILT)/weirctl" man "$(DESTDIR)$(PREFIX)/share/man/man1" > /dev/null
	install -m 644 packaging/weir.8 "$(DESTDIR)$(PREFIX)/share/man/man8"
	set -e; for shell in bash zsh fish; do \
		"$(BUILT)/weirctl" completions $$shell > "$(DESTDIR)$(PREFIX)/share/completions/weirctl.$$shell"; \
	done
	install -d "$(DESTDIR)$(PREFIX)/share/systemd"
	sed -e 's|/usr/sbin/weir|$(PREFIX)/sbin/weir|' -e 's|/run/weir/|$(PREFIX)/logs/|' -e 's|^ProtectSystem=.*|&\nReadWritePaths=$(PREFIX)|' \
		packaging/weir.service > "$(DESTDIR)$(PREFIX)/share/systemd/weir.service"
	set -e; for file in conf/weir.conf conf/mime.types; do \
		install -m 644 "$$file" "$(DESTDIR)$(PREFIX)/$$file.default"; \
		[ -e "$(DESTDIR)$(PREFIX)/$$file" ] || cp "$(DESTDIR)$(PREFIX)/$$file.default" "$(DESTDIR)$(PREFIX)/$$file"; \
	done

# Leaves configuration and logs.
uninstall:
	rm -f "$(DESTDIR)$(PREFIX)/sbin/weir" "$(DESTDIR)$(PREFIX)/sbin/weirctl"
	rm -f "$(DESTDIR)$(PREFIX)"/share/man/man1/weirctl*.1 "$(DESTDIR)$(PREFIX)/share/man/man8/weir.8"
	rm -f "$(DESTDIR)$(PREFIX)"/share/completions/weirctl.* "$(DESTDIR)$(PREFIX)/share/systemd/weir.service"
	rm -f "$(DESTDIR)$(PREFIX)/conf/weir.conf.default" "$(DESTDIR)$(PREFIX)/conf/mime.types.default"

# A Debian package in DEB, whose weir has Debian's places built in.
DEB ?= $(TARGET)/package
deb:
	WEIR_PREFIX=/var/lib/weir WEIR_CONF_PATH=/etc/weir/weir.conf WEIR_PID_PATH=/run/weir/weir.pid \
	WEIR_ERROR_LOG_PATH=/var/log/weir/error.log WEIR_HTTP_LOG_PATH=/var/log/weir/access.log \
		$(CARGO) build --profile $(PROFILE) --bins
	packaging/deb "$(BUILT)" "$(DEB)"
