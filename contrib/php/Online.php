<?php
// Who is online, for PHP without an extension: one file, over a plain socket. See docs/php.md.
//
// Its job: to report page views, and to tell who is online and on a page. Not its job: pages that a cache serves; the
// web component and the beacon are for these (docs/widget.md, docs/beacon.md).
//
// 1. A page waits TIMEOUT_S at most for a connection and as long for all answers, and not at all for REST_S after the
//    server failed. It never throws.
// 2. What counts as a page view, who is a bot, and how guests are named is as in all middleware of online.

final class Online
{
    private const TIMEOUT_S = 0.05;
    private const REST_S = 5;
    private const MOST_BYTES = 1 << 20;
    private const FILE = '/\.(avif|bmp|css|csv|cur|eot|flac|gif|gz|ico|jpe?g|js|json|m3u8|m4[asv]|map|mjs|mov|mp[34]|mpd|og[agv]|opus|otf|pdf|png|rss|svg|tar|tgz|tiff?|ts|ttf|txt|wasm|wav|webm|webmanifest|webp|woff2?|xml|zip)$/i';
    private const BOT = '/^(?!(Mozilla|Opera|Lynx|E?Links|w3m)\b)|bots?\b|bot[-_\/;]|crawl|spider|slurp|headless|phantomjs|lighthouse|google-|monitor|uptime|pingdom|preview|scan|nutch|\+ ?https?:|\(compatible;(?! *(MSIE|Konqueror|Win|X11|Linux|Mac))/i';

    private string $key;
    private string $failed;
    private float $until = 0.0;
    private string $waiting = '';
    /** @var resource|null */
    private $socket = null;

    /**
     * `$url`: redis://[:TOKEN@]HOST[:PORT][/SITE], by default of ONLINE_REDIS_URL. `$secret` names guests: long, random,
     * and the same in all of the site.
     */
    public function __construct(string $secret, private ?string $url = null)
    {
        $this->url ??= getenv('ONLINE_REDIS_URL') ?: 'redis://127.0.0.1:8989';
        $this->key = hash('sha256', $secret, true);
        $this->failed = sys_get_temp_dir() . '/online-' . md5(__FILE__ . $this->url) . '.failed';
    }

    /**
     * Reports this page view, if it is one, and returns who is online, this visitor included: `people` and `here` (on
     * this page), the names of `members` here, newest first, and how many `guests` are. Null if the server cannot be
     * asked. Without `$user` it is a guest's. `$server` is $_SERVER; behind a proxy, set its REMOTE_ADDR first.
     *
     * @return array{people: int, here: int, members: list<string>, guests: int}|null
     */
    public function view(string $url, ?string $user = null, ?array $server = null, int $status = 0): ?array
    {
        $server ??= $_SERVER;
        [$name, $kind] = $user === null || $user === '' ? $this->guest($server) : [$user, 'member'];
        $asked = [['PAGE', $url, '30'], ['KINDS', $url]];
        if (self::isPageView($url, $server, $status ?: (http_response_code() ?: 200))) {
            array_unshift($asked, ['HIT', $name, $url, '', $kind]);
        }
        $answers = $this->ask($asked);
        [$page, $kinds] = array_slice($answers ?? [null, null], -2);
        if ($page === null || $kinds === null) {
            return null;
        }
        [[$people, $here, $users], [, $guests]] = [$page, $kinds];
        $members = array_values(array_filter($users, fn ($viewer) => $viewer[2] === 'member'));
        return ['people' => $people, 'here' => $here, 'members' => array_column($members, 0), 'guests' => $guests];
    }

    /** Returns how many people are online, or null if the server cannot be asked. */
    public function people(): ?int
    {
        return $this->ask([['COUNT']])[0] ?? null;
    }

    /** Whether somebody looks at a page: no file, error or redirect, nothing fetched ahead, and no part of a page. */
    public static function isPageView(string $url, array $server, int $status = 200): bool
    {
        $header = fn (string $name): string => strtolower($server["HTTP_$name"] ?? '');
        $purpose = implode(' ', array_map($header, ['SEC_PURPOSE', 'PURPOSE', 'X_PURPOSE', 'X_MOZ', 'X_REQUESTED_WITH']));
        return in_array($server['REQUEST_METHOD'] ?? 'GET', ['GET', 'HEAD', 'POST'], true)
            && in_array($status, [200, 203, 206, 304], true)
            && !preg_match('/prefetch|prerender|preview|xmlhttprequest/', $purpose)
            && ($header('HX_REQUEST') !== 'true' || $header('HX_BOOSTED') === 'true')
            && !preg_match(self::FILE, $url);
    }

    /** Returns the name and the kind of a visitor who has not signed in: guest or bot. */
    public function guest(array $server): array
    {
        $agent = $server['HTTP_USER_AGENT'] ?? '';
        $kind = preg_match(self::BOT, $agent) ? 'bot' : 'guest';
        $address = preg_replace('/^::ffff:(?=\d+\.)/i', '', $server['REMOTE_ADDR'] ?? '');
        $knownBy = "$kind $address " . ($agent === '-' ? '' : substr($agent, 0, 512));
        return ["$kind-" . substr(hash_hmac('sha256', $knownBy, $this->key), 0, 16), $kind];
    }

    /** Sends commands together and returns their answers, null for what is refused; null if the server does not answer. */
    private function ask(array $commands): ?array
    {
        clearstatcache(true, $this->failed);
        if (is_file($this->failed) && filemtime($this->failed) > time() - self::REST_S) {
            return null;
        }
        try {
            $kept = $this->connect();
            $message = implode('', array_map([self::class, 'packed'], $commands));
            if (@fwrite($this->socket, $message) !== strlen($message)) {
                throw new RuntimeException('the server does not read');
            }
            $this->until = microtime(true) + self::TIMEOUT_S;
            return array_map(fn () => $this->answer(), $commands);
        } catch (RuntimeException) {
            $this->close();
            if (!($kept ?? false)) {
                @touch($this->failed);
                return null;
            }
            return $this->ask($commands);  // the server has closed what was kept, perhaps by a restart: once more, anew
        }
    }

    /** Connects, if there is no connection yet. Returns whether there was one. */
    private function connect(): bool
    {
        if ($this->socket !== null) {
            return true;
        }
        $server = parse_url($this->url);
        $address = 'tcp://' . ($server['host'] ?? '127.0.0.1') . ':' . ($server['port'] ?? 8989);
        $socket = @stream_socket_client($address, $code, $why, self::TIMEOUT_S);
        if ($socket === false) {
            throw new RuntimeException($why);
        }
        $this->socket = $socket;
        $this->until = microtime(true) + self::TIMEOUT_S;
        stream_set_blocking($socket, false);
        $first = [];
        if (isset($server['pass'])) {
            $first[] = ['AUTH', rawurldecode($server['user'] ?? '') ?: 'default', rawurldecode($server['pass'])];
        }
        $site = trim($server['path'] ?? '', '/');
        if ($site !== '') {
            $first[] = ['SITE', rawurldecode($site)];
        }
        foreach ($first as $command) {
            @fwrite($socket, self::packed($command));
            if ($this->answer() !== 'OK') {
                throw new RuntimeException('the server refuses the token or the site');
            }
        }
        return false;
    }

    private function close(): void
    {
        if ($this->socket !== null) {
            fclose($this->socket);
        }
        [$this->socket, $this->waiting] = [null, ''];
    }

    private static function packed(array $words): string
    {
        return '*' . count($words) . "\r\n" . implode('', array_map(fn ($word) => '$' . strlen($word) . "\r\n$word\r\n", $words));
    }

    /** Reads one answer of RESP2; null for an error. */
    private function answer(): int|string|array|null
    {
        $line = $this->line();
        $rest = substr($line, 1);
        switch ($line[0] ?? '') {
            case ':':
                return (int) $rest;
            case '+':
                return $rest;
            case '-':
                return null;
            case '$':
                return $rest === '-1' ? null : substr($this->bytes((int) $rest + 2), 0, -2);
            case '*':
                $items = [];
                for ($left = (int) $rest; $left > 0; $left--) {
                    $items[] = $this->answer();
                }
                return $items;
        }
        throw new RuntimeException('this is no server of online');
    }

    private function line(): string
    {
        while (($end = strpos($this->waiting, "\r\n")) === false) {
            $this->receive();
        }
        return substr($this->bytes($end + 2), 0, -2);
    }

    private function bytes(int $number): string
    {
        while (strlen($this->waiting) < $number) {
            $this->receive();
        }
        $bytes = substr($this->waiting, 0, $number);
        $this->waiting = substr($this->waiting, $number);
        return $bytes;
    }

    private function receive(): void
    {
        $left = $this->until - microtime(true);
        [$read, $write, $except] = [[$this->socket], null, null];
        if ($left <= 0 || !stream_select($read, $write, $except, 0, (int) ($left * 1e6))) {
            throw new RuntimeException('the server does not answer in time');
        }
        $piece = @fread($this->socket, 65536);
        if ($piece === '' || $piece === false || strlen($this->waiting) > self::MOST_BYTES) {
            throw new RuntimeException('the server has closed the connection');
        }
        $this->waiting .= $piece;
    }
}
