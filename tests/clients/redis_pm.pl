# Talks to a server with Redis.pm: argv PORT SITE VERSION. Each line of stdin, {"way", "commands": [[word, ...], ...]},
# is answered by a line of replies, errors as {"error"}.
use strict;
use warnings;
use JSON::PP;
use Redis;

$| = 1;
my $json = JSON::PP->new->utf8;
my ($port, $site) = @ARGV;
my $redis = Redis->new(
    server => "127.0.0.1:$port", username => $site, password => "token", reconnect => 10, every => 50_000,
);

# Redis.pm sends and gives bytes.
sub bytes { return map { my $word = "$_"; utf8::encode($word); $word } @_ }

sub text {
    my ($reply) = @_;
    return [map { text($_) } @$reply] if ref $reply;
    utf8::decode($reply) if defined $reply;
    return $reply;
}

sub ask {
    my ($verb, @args) = @_;
    $verb = lc $verb;
    return $redis->$verb(bytes(@args));
}

my %ways = (
    single => sub {
        my @replies;
        for my $command (@_) {
            my $reply = eval { ask(@$command) };
            my ($error) = $@ =~ /^\[\w+\] (.*?)(?:, at |$)/;
            push @replies, $error ? { error => $error } : text($reply);
        }
        return \@replies;
    },
    pipelined => sub {
        my @replies;
        for my $command (@_) {
            my ($verb, @args) = @$command;
            $verb = lc $verb;
            $redis->$verb(bytes(@args), sub {
                my ($reply, $error) = @_;
                push @replies, defined $error ? { error => $error } : text($reply);
            });
        }
        $redis->wait_all_responses;
        return \@replies;
    },
    transaction => sub {
        $redis->multi;
        ask(@$_) for @_;
        return [map { text($_) } $redis->exec];
    },
);

while (my $line = <STDIN>) {
    my $asked = $json->decode($line);
    print $json->encode($ways{ $asked->{way} }->(@{ $asked->{commands} })), "\n";
}
